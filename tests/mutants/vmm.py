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
    ("changed-at-the-stop", "what was plugged or unplugged until the stop is noticed", "changes.c",
     " || check_all(q, &found, err) < 0", "", "tests/faults/test_meanwhile.py::test_at_the_last_moment"),
    ("ram-plugged-meanwhile", "RAM that was plugged until the stop is noticed", "changes.c",
     "findings_take(&found, qemu_check_ram(q, false, err), err) < 0 ||", "", SECOND + "test_ram_that_was_plugged_meanwhile"),
    ("changed-before-the-stop", "what was plugged or unplugged is noticed while the destination is of use yet", "changes.c",
     "if (check_all(q, &found, err) < 0 || qemu_find_blockers", "if (qemu_find_blockers",
     "tests/faults/test_meanwhile.py::test_before_the_stop"),
    ("ran-before-the-stop", "a guest that its operator stopped or let run meanwhile is that when it is put back", "switchover.c",
     "    q->did.migration->guest_ran = state.running; /* somebody", "    /* somebody",
     SECOND + "test_what_its_operator_did_before_it_failed"),
    ("ran-and-stopped", "a guest that has run at the destination is never given back, whatever it does now", "qemu.c",
     "        ledger_note_ran(l);\n", "", "tests/faults/test_in_doubt.py::test_the_guest_has_run_there_whatever_its_vmm_says"),
    ("stopped-as-it-is-stopped", "a guest that stops by itself as it is stopped is not let run again", "switchover.c",
     "    if (q->by_itself[0] == '\\0') {", "    if (true) {",
     "tests/faults/test_stopped_by_itself.py::test_a_guest_that_is_switched_off_as_it_is_stopped"),
    ("stopped-by-itself", "a guest that has stopped by itself is left as it is", "switchover.c",
     "if (state->running || ", "if (true || ", "tests/faults/test_stopped_by_itself.py::test_a_guest_that_is_switched_off_meanwhile"),
    ("own-offered", "a destination names RAM of QEMU's own that it was offered", "own.c",
     "return kept == json_array_size(ids)", "return kept <= json_array_size(ids)",
     "tests/peer/test_agreed_ram.py::test_what_was_not_offered"),
    ("own-size", "RAM of QEMU's own goes in the passes when both ends have it in the same size", "own.c",
     "return !json_is_object(item) || ", "return json_is_string(item) || true || ",
     "tests/peer/test_agreed_ram.py::test_what_a_source_offers[another_size-taken2]"),
    ("own-proved", "where QEMU's own RAM lies is believed when the guest's is found by the same way", "own.c",
     "bool proved = memory >= 0 && ", "bool proved = memory >= 0 || ",
     "tests/e2e/test_own_ram.py::test_that_cannot_be_reached"),
    ("own-resized", "RAM of QEMU's own that has changed meanwhile is noticed", "own.c", "now->used == then->used &&", "",
     "tests/e2e/test_own_ram.py::test_resized_meanwhile"),
    ("heap-once", "a record that is in QEMU's heap twice is none", "heap.c", "if (found[i] != 1)", "if (found[i] == 0)",
     "meson:platform-heap"),
    ("heap-only", "what lies elsewhere than in the heap is no record", "heap.c", "strcmp(m->path, \"[heap]\") == 0 && ", "",
     "meson:platform-heap"),
)
