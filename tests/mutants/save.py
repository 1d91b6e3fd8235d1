# SPDX-License-Identifier: Apache-2.0
"""Rules about the device state that goes without a migration of QEMU's."""
from table import table

SAVED = "tests/faults/test_saved.py::"
OWN = "tests/e2e/test_own_ram.py::"

MUTANTS = table(
    "save", "src/vmm/qemu/",
    ("commands", "a QEMU that lacks a command for it is not saved", "bars.c", "if (!lists(commands, needed[i])) {", "if (false) {",
     SAVED + "test_a_qemu_without_the_command"),
    ("target", "only targets of which it is known to be whole are saved", "bars.c", "if (strcmp(arch, \"x86_64\") != 0 && ",
     "if (false && ", SAVED + "test_another_target"),
    ("paused", "a paused guest is not saved", "bars.c", "if (!state.running) {", "if (false) {", SAVED + "test_a_paused_guest"),
    ("nvme", "NVMe is known by its type too", "bars.c", "if (strcmp(type, \"nvme\") == 0) {", "if (false) {",
     SAVED + "test_nvme_is_seen_by_its_type_too"),
    ("tells-blockers", "a QEMU that does not tell what blocks a migration is not saved", "bars.c",
     "if (qmp_version(q->qmp).major < TELLS_BLOCKERS) {", "if (false) {", SAVED + "test_a_qemu_that_does_not_tell_its_blockers"),
    ("form", "a stream of another form is not made up", "bars.c", "if (strstr(text, off) != NULL) {", "if (false) {",
     SAVED + "test_a_stream_of_another_form", SAVED + "test_a_real_stream_of_another_form"),
    ("machine", "nor that of an old machine type", "bars.c", "if (is_old_machine(type)) {", "if (false) {",
     SAVED + "test_a_machine_of_before_there_was_a_configuration"),
    ("unreachable", "RAM that nobody can read is not left behind", "bars.c", "if (q->save.unreachable.used > 0) {", "if (false) {",
     OWN + "test_what_cannot_be_read_bars_saving"),
    ("blocked-in-the-pause", "what blocks a migration is asked for right before it is saved", "save.c",
     "if (m.blocked[0] != '\\0') {", "if (false) {", SAVED + "test_a_blocker_that_comes_in_the_pause"),
    ("let-run", "a guest that somebody has let run is not saved, nor handed over", "save.c", "return q->resumed ? ",
     "return false ? ", SAVED + "test_let_run_by_somebody"),
    ("ours-to-stop", "a guest that somebody else has stopped is left as it is", "save.c", " || q->stopped_at == 0) {", ") {",
     SAVED + "test_paused_by_somebody_as_it_is_stopped"),
    ("paused-meanwhile", "a guest that is paused before the stop is refused while the destination is of use", "standstill.c",
     "return state.running || vmm->way", "return true || vmm->way", SAVED + "test_paused_by_somebody_before_the_stop"),
    ("given-up", "each disk is given up before it is handed over", "save.c",
     "if (json_is_true(json_object_get(node, \"active\"))) {", "if (false) {", SAVED + "test_a_disk_that_is_not_given_up"),
    ("back", "what was stopped is let run again", "undo.c", "if (q->did.save->guest_ran && run_again(q, err) < 0) {", "if (false) {",
     SAVED + "test_a_second_attempt"),
    ("tidied", "a set of descriptors that was given is taken out again", "undo.c", "if (is_done(q->did.fdset) && ", "if (false && ",
     SAVED + "test_send_is_killed_at[add-fd-save]"),
    ("same-form", "the destination loads a stream in which no RAM was skipped", "settings.c", "if (q->vmm.way == VMM_WAY_SAVE && ",
     "if (false && ", SAVED + "test_it_arrives_paused_and_equal"),
    ("left", "what the destination does not take goes with the device state", "own.c",
     "if (q->side == VMM_DESTINATION || q->vmm.way != VMM_WAY_SAVE) {", "if (true) {",
     OWN + "test_what_the_destination_does_not_reach_is_put_to_the_device_state"),
    ("left-is-there", "what goes with the device state is where it was", "look.c",
     "return check_list(q, q->save.left, q->save.left_count, &l, err);", "return 0;",
     OWN + "test_what_is_left_to_the_device_state_is_in_another_place"),
    ("cut-end", "what is saved is cut where its end is", "compose.c", " || last != END) {", ") {", "meson:compose"),
    ("cut-head", "what is saved is cut behind its head", "compose.c", "memcmp(head, magic, HEAD_SIZE) != 0 || ", "", "meson:compose"),
    ("zeros", "a page is zero when all of it is", "compose.c", "page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0", "page[0] == 0",
     "meson:compose"),
)
MUTANTS += table(
    "save", "src/migrate/",
    ("older-receiver", "a receiver that does not know it is not given it", "source_setup.c", "theirs == NULL ? way != VMM_WAY_SAVE",
     "theirs == NULL ? true", SAVED + "test_an_older_receiver"),
    ("stands-still", "a guest that runs here is not handed over", "source_switchover.c",
     "if (s->vmm->ops->stands_still(s->vmm, err) < 0) {", "if (false) {", SAVED + "test_let_run_by_somebody[hand-over-1-save]"),
)
