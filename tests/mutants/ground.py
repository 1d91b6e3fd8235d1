# SPDX-License-Identifier: Apache-2.0
"""Rules that a review found missing: each was a defect once, and comes back when its line goes."""
from table import table

SAME = "tests/faults/test_same_guest.py::"
LIMIT = "tests/faults/test_stop_limit.py::"

MUTANTS = table(
    "ground", "src/",
    ("late-writes", "what was written behind the last look ends the attempt", "migrate/source_verify.c",
     "if (rc == 0 && late.pages > 0)", "if (0)", "tests/faults/test_late_writes.py::test_a_device_that_writes_while_its_state_is_saved"),
    ("stop-limit", "the guest stands still until stop-limit and no longer", "migrate/switchover.c",
     "if (switchover_left(w) > 0) {\n        return 0;", "if (switchover_left(w) >= 0) {\n        return 0;",
     LIMIT + "test_it_runs_again[stunt-final-wire]"),
    ("word-overdue", "an engine whose word nobody waits for any more is ended", "migrate/guardian.c",
     "return before && w->overdue;", "return false;", "meson:guardian", LIMIT + "test_after_the_hand_over[stunt-receive-take back]"),
    ("silent-engine", "an engine that is silent while the guest stands still is ended", "migrate/guardian.c",
     "return w->silent >= SILENCE && silence >= SILENCE;", "return false;", "meson:guardian",
     "tests/faults/test_hangs.py::test_stopped[final-async]"),
    ("injection", "what an injection changed is put back when its engine was killed in it", "migrate/guardian.c",
     "    injection_put_back(l, w->vmm->pid);\n", "", "tests/faults/test_hangs.py::test_inside_the_injection"),
    ("drains", "the guest's block I/O is drained twice, and not with every pass", "migrate/source_ram.c",
     "return !ram_is_digested(&s->sender.ram) ||", "return true ||", "tests/e2e/test_dma.py::test_limits_of_a_disk_hold"),
    ("drain-before-copy", "what a device may still write is copied behind a drain", "migrate/source_ram.c",
     "    int rc = s->vmm->ops->drain(s->vmm, err);\n", "    int rc = 0;\n", "tests/e2e/test_dma.py::test_reads_in_flight_arrive"),
    ("settled", "what was copied before the drain is looked at again behind it", "migrate/source_switchover.c",
     "    source_settle(s); /* the VMM has drained to stop the guest */\n", "",
     "tests/e2e/test_dma.py::test_reads_that_were_copied_in_flight_arrive"),
    ("cpu", "a destination whose CPU lacks a feature is refused", "vmm/qemu/cpu.c",
     "    missing_bits(their_words, our_words, &lacks);\n", "", SAME + "test_differs[cpu feature]"),
    ("disk", "a destination whose disk is another is refused", "vmm/qemu/disks.c", "    if (likeness == OTHER) {",
     "    if (0) {", SAME + "test_a_snapshot_that_the_destination_does_not_have"),
    ("disk-size", "a destination whose disk has another size is refused", "vmm/qemu/disks.c", "if (size != other_size) {",
     "if (0) {", SAME + "test_another_image[size]"),
    ("preallocated", "preallocated memory stays so when it is emptied", "ram/backing_small.c",
     "return data ? write_zeros(s, at, size, err) : 0;", "return data ? punch(b, at, size, err) : 0;",
     "tests/e2e/test_memory.py::test_preallocated_memory_stays"),
    ("held-up", "a stranger that only pings is sent away", "migrate/visitors.c",
     "v->until = clock_now() + CANDIDATE_PATIENCE;", "v->until = clock_now() + 100 * CANDIDATE_PATIENCE;", "tests/e2e/test_visitors.py::test_a_stranger_that_pings_does_not_hold_the_receiver"),
    ("has-run", "a guest that has run at the destination is not taken back", "ledger/moves.c", "!(m->back && ledger_has_run(l))",
     "true", "meson:ledger"),
    ("move-on-disk", "a move that could not be written is none", "ledger/moves.c", "        atomic_store(&r->owner, from);\n",
     "", "meson:ledger", "tests/faults/test_resolve.py::test_a_full_disk_before_the_hand_over"),
    ("final-in-place", "no device state is let through before all pages are in place", "migrate/source_switchover.c",
     "    return source_await(s, FINAL_TIMEOUT, NULL, err);\n", "    return 0;\n", "tests/peer/test_honest.py::test_send_to_it"),
)
