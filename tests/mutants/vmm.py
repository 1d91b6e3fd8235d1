# SPDX-License-Identifier: Apache-2.0
"""Rules about the VMM: what is looked at before it is trusted, and what is put back."""
from table import table

REFUSALS = "tests/faults/test_refusals.py::"
SECOND = "tests/peer/test_second_line.py::"

MUTANTS = table(
    "vmm", "src/vmm/qemu/",
    ("sends-ram-itself", "a QEMU that sends the guest's RAM itself is noticed", "switchover.c",
     "(uint64_t)m->ram_total <= own)", "true)", SECOND + "test_a_vmm_that_sends_ram_itself"),
    ("writable-mapping", "only files that the VMM itself may write are written", "ram.c", "m->shared && m->writable", "m->shared",
     "tests/faults/test_own_memory.py::test_a_file_that_the_vmm_may_only_read"),
    ("destination-stopped", "a destination that would run the guest when it is loaded is refused", "inspect.c",
     "is_option(argv[i], \"-S\")", "is_option(argv[i], \"-incoming\")", REFUSALS + "test_destination_without_stop"),
)
