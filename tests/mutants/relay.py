# SPDX-License-Identifier: Apache-2.0
"""Rules of the relay: nothing but what was proved is given out, to nobody but who is meant."""
from table import table

CARRY = "meson:relay_carry"
READER = "meson:relay_reader"
BREAKS = "tests/faults/test_relay_breaks.py::"

MUTANTS = table(
    "relay", "src/relay/",
    ("digest", "no byte is given out whose stream has another digest", "post.c",
     " || memcmp(digest, p->digest, sizeof(digest)) != 0", "", CARRY),
    ("end-proves", "an END that does not know all of the stream is none", "post.c",
     "    if (check_tally(t, p, err) < 0) {", "    if (p->kind == PACKET_DATA && check_tally(t, p, err) < 0) {", CARRY),
    ("header-check", "a header that is damaged is believed in nothing", "packet.c",
     " || get_u64(in + CHECK_AT) != XXH3_64bits(in, CHECK_AT)", "", CARRY),
    ("source-deaf", "what the source's QEMU does not take takes nothing from what it said", "carry.c",
     "n < 0 && c->side == CARRY_AT_DESTINATION", "n < 0", CARRY),
    ("destination-deaf", "what the destination's QEMU does not take is a failure", "carry.c",
     "n < 0 && c->side == CARRY_AT_DESTINATION", "n < -1", CARRY),
    ("silence", "another relay that says nothing is gone", "carry.c",
     "    setsockopt(c->wire.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));\n", "", CARRY),
    ("early-end", "a connection that ends before END has come from both sides has failed", "carry.c",
     "return c->end_sent && c->end_taken;", "return c->end_taken;", CARRY),
    ("after-end", "nothing comes behind END", "carry.c", " || c->end_taken) {", ") {", CARRY),
    ("alive", "who waits for the other direction's end still says that it lives", "carry.c",
     "        if (post_word(&c->wire, PACKET_ALIVE, &c->sent, NULL, err) < 0) {\n            return -1;\n        }\n", "",
     CARRY),
    ("end-of-block", "a page lies in its block", "reader.c", "(value & ~(uint64_t)FLAGS) >= (*block)->size",
     "(value & ~(uint64_t)FLAGS) > (*block)->size", READER),
    ("half-page", "what has come of a page when the stream ends is passed on", "reader.c",
     "    give_bytes(r, r->page.data, r->page.got);\n", "", READER),
    ("opaque-for-good", "behind the first thing that is not known nothing is taken for pages", "reader.c",
     "    give_mark(r, MARK_OPAQUE);\n    r->next = read_all;\n",
     "    give_mark(r, MARK_OPAQUE);\n    pass(r, 1, read_record);\n", READER),
    ("allow", "nothing is connected to that is not on the list", "inbound.c", " || !allow_has(&config->allow, to)", "",
     BREAKS + "test_nothing_but_what_is_allowed"),
    ("allow-port", "the list is of ports too", "allow.c", " && port <= one->last", "", "meson:relay_allow"),
    ("together", "all connections of a migration fail together", "migrations.c",
     "        carry_fail(m->carry, &others);\n", "", BREAKS + "test_connections_in_their_order"),
    ("in-turn", "connections of a migration come in their order", "migrations.c",
     "(g != NULL ? g->joined : 0) != number", "number > 1000", BREAKS + "test_connections_in_their_order"),
    ("strangers", "connections that say nothing are bounded in number", "service.c",
     "inbound && atomic_load(&s->shared.strangers) >= INBOUND_STRANGERS", "false",
     BREAKS + "test_crowd_of_strangers"),
    ("waits", "a relay that is told to end lets migrations end", "service.c",
     "while (running(s) > 0 && !(again = signalled(s, 50)))", "while (!(again = true))",
     BREAKS + "test_told_to_end_waits"),
)
