# SPDX-License-Identifier: Apache-2.0
"""Rules of the side that has the guest."""
from table import table

SEND = "tests/peer/test_lies_to_send.py::"
SECOND = "tests/peer/test_second_line.py::"

MUTANTS = table(
    "source", "src/migrate/",
    ("reply-stage", "a reply answers the stage that was asked for", "source_wait.c",
     "if (stage == NULL || strcmp(stage, s->stage) != 0)", "if (stage == NULL)", SEND + "test_a_reply_to_another_stage"),
    ("second-reply", "there is one reply to a request", "source_wait.c",
     "strcmp(type, \"reply\") == 0 && s->reply == NULL)", "strcmp(type, \"reply\") == 0)",
     SEND + "test_two_replies_at_once"),
    ("pages-left", "the last pass leaves no page behind", "source_switchover.c", "if (ram_dirty_pages(&s->ram) != 0)",
     "if (0)", SECOND + "test_pages_that_the_last_pass_forgot"),
    ("final-passes", "a peer that rejects the last pages again and again ends the attempt", "source_switchover.c",
     "if (i == FINAL_PASSES)", "if (0)", SEND + "test_the_last_pages_are_rejected_without_end"),
    ("takes-nothing", "a peer that takes nothing while the guest stands still ends the attempt", "source_pass.c",
     "#define STOPPED_PATIENCE (5 * CLOCK_S)", "#define STOPPED_PATIENCE (5000 * CLOCK_S)",
     SECOND + "test_a_peer_that_takes_nothing"),
    ("silence", "while the guest stands still silence is waited for 3 s at most", "source_switchover.c",
     "limit_silence(s, SWITCHOVER_SILENCE);", "limit_silence(s, INT64_MAX);",
     SECOND + "test_silence_while_the_guest_stands_still"),
    ("link-watches", "every connection of a migration ends with its link", "source_setup.c",
     "        link_watch(s->link, c);\n", "        ;\n", SECOND + "test_device_state_that_nobody_takes"),
    ("last-cancel", "a cancel counts until the guest is handed over", "source_switchover.c",
     "if (source_poll(s, -1, 0, err) < 0)", "if (0)", SECOND + "test_cancelled_in_the_last_moment"),
    ("rejected-runs-ascend", "runs of a rejection ascend", "rejections.c", "(uint64_t)first < next || ", "",
     SEND + "test_a_rejection_that_cannot_be[descending]"),
    ("rejected-in-block", "rejected pages lie in their block", "rejections.c",
     "(uint64_t)count > b->pages - (uint64_t)first ||", "", SEND + "test_a_rejection_that_cannot_be[behind the end]"),
    ("rejected-batch", "no more is rejected at once than a batch has", "rejections.c",
     "(total += (uint64_t)count) > FRAME_MAX_PAGES", "(total += (uint64_t)count) > b->pages",
     SEND + "test_a_rejection_that_cannot_be[more than a batch]"),
    ("rejected-block", "rejected pages are of a block that there is", "rejections.c", " && block < ram->count;", ";",
     SEND + "test_a_rejection_that_cannot_be[another block]"),
    ("rejected-memory", "what a peer rejects takes bounded memory", "rejections.c",
     "if (r->taken == REJECTIONS_MAX || n > REJECTIONS_MAX_RUNS - r->count)", "if (0)", "meson:rejected"),
    ("destination-params", "what the destination says of parameters is checked", "../params/params.c",
     "err->class = ERROR_PEER; /* not our user's fault", "; /* not our user's fault",
     SEND + "test_params_that_cannot_be[limits-another type]"),
    ("stricter", "where both sides set a limit the stricter one holds", "../params/params.c", "return a < b ? a : b;",
     "return a < b ? b : a;", "meson:params"),
    ("live", "what cannot change in a migration does not", "../params/params.c", "if (live && !row->live)", "if (0)",
     "meson:params"),
)
