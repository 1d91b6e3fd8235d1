# SPDX-License-Identifier: Apache-2.0
"""Rules about what comes over the network."""
from table import table

RECEIVE = "tests/peer/test_lies_to_receive.py::"
SEND = "tests/peer/test_lies_to_send.py::"
VISITORS = "tests/e2e/test_visitors.py::"

MUTANTS = table(
    "talk", "src/wire/",
    ("check", "header and runs of a frame have their check", "frame.c",
     "if (check_of(in, size) != get_u64(in + CHECK_AT))", "if (0)", "meson:frame",
     RECEIVE + "test_frames_that_cannot_be[another place]"),
    ("ascending-runs", "runs of a frame ascend and do not overlap", "frame.c",
     "runs[i].first < next || ", "", "meson:frame", RECEIVE + "test_frames_that_cannot_be[descending runs]"),
    ("pages-in-block", "pages of a frame lie in their block", "frame.c", " || end > pages", "", "meson:frame",
     RECEIVE + "test_frames_that_cannot_be[over the end]"),
    ("sum-of-runs", "a frame has as many pages as its runs", "frame.c",
     "total != f->pages", "total > f->pages", "meson:frame"),
    ("known-block", "a frame is about a block that this migration has", "frame.c",
     "f->index < b->space[f->thing].count ?", "f->index <= b->space[f->thing].count ?", "meson:frame"),
    ("known-thing", "a frame is about a kind of thing that this migration has", "frame.c",
     " || b->space[f->thing].count == 0", "", "meson:frame"),
    ("reserved-bytes", "reserved bytes of a frame are zero", "frame.c", "if (in[i] != 0)", "if (in[i] > 1)",
     "meson:frame"),
    ("payload-bound", "a payload is not longer than the pages of a batch", "frame.c",
     "bounded(err, \"a payload of\", f->payload, b->max_payload);", "0;", "meson:frame"),
    ("pages-bound", "a frame has no more pages than were agreed", "frame.c",
     "bounded(err, \"pages\", f->pages, b->max_pages)", "0", "meson:frame",
     RECEIVE + "test_frames_that_cannot_be[more pages than a batch]"),
    ("message-length", "a message of more than 512 KiB is refused", "link.c",
     "if (size > LINK_MAX_MESSAGE) {\n        return error_set(err, ERROR_PEER", "if (0) {\n        return error_set("
     "err, ERROR_PEER", SEND + "test_a_message_too_long"),
    ("duplicate-members", "a message has each member once", "link.c", "JSON_REJECT_DUPLICATES", "0",
     SEND + "test_words_that_it_must_not_say[final-a member twice]"),
    ("silence", "a peer that says nothing for long is gone", "link.c", "> timeout) {", "> timeout * 1000) {",
     "meson:link"),
    ("hello-first-byte", "what cannot become a hello is refused at its first wrong byte", "hello.c",
     "memcmp(in, magic, n < sizeof(magic) ? n : sizeof(magic)) == 0", "1", VISITORS +
     "test_visitors_are_refused_and_the_migration_works"),
)
