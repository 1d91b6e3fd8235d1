/* SPDX-License-Identifier: Apache-2.0 */
/* What the source makes of the destination's word that it could not place a batch: everything in it is the peer's. */
#include "base/bits.h"
#include "migrate/rejections.h"
#include "rig.h"
#include "wire/frame.h"

#define PAGES 4000u

static struct rig rig;
static struct rejections rejections;
static struct error err;

static int setup(void **state) {
    static const uint64_t block_pages[] = { PAGES, 7 };
    (void)state;
    rig_open(&rig, &(struct rig_plan){ block_pages, 2, 1, 1024, CODEC_NONE });
    rejections = (struct rejections){ 0 };
    error_clear(&err);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    rejections_free(&rejections);
    rig_close(&rig);
    return 0;
}

/* Takes the message as the source would; runs is JSON text. */
static int note(const char *block, const char *runs) {
    char text[256];
    snprintf(text, sizeof(text), "{\"type\": \"rejected\", \"block\": %s, \"device\": 1, \"runs\": %s}", block, runs);
    json_t *message = json_loads(text, 0, NULL);
    assert_non_null(message);
    int rc = rejections_take(&rejections, &rig.source, message, &err);
    json_decref(message);
    return rc;
}

static void pages_that_there_are_become_dirty(void **state) {
    (void)state;
    assert_int_equal(rejections_mark(&rejections, rig.send), 0);
    assert_ok(note("0", "[0, 1, 64, 130, 3999, 1]") == 0, &err);
    assert_ok(note("1", "[6, 1]") == 0, &err);
    assert_int_equal(ram_dirty_pages(&rig.source), 0); /* not while a pass may run */
    assert_int_equal(rejections_mark(&rejections, rig.send), 2);
    assert_int_equal(rejections_mark(&rejections, rig.send), 0);
    assert_int_equal(ram_dirty_pages(&rig.source), 133);
    for (uint64_t page = 0; page < PAGES; page++) {
        bool is = page == 0 || (page >= 64 && page < 194) || page == 3999;
        assert_true(bits_test(rig.source.blocks[0].dirty, page) == is);
        assert_true(bits_test(rig.source.blocks[0].sent, page) == is);
    }
    assert_true(bits_test(rig.source.blocks[1].dirty, 6));
    assert_int_equal(atomic_load(&ram_send_counters(rig.send)->resent), 133);
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    static const char *const blocks[] = { "2", "-1", "65536", "4294967296", "\"0\"", "null", "0.0", "[]", "true" };
    static const char *const runs[] = { "[]",
                                        "null",
                                        "7",
                                        "{}",
                                        "\"0, 1\"",
                                        "[0]",
                                        "[0, 1, 5]",
                                        "[0, 0]",
                                        "[0, -1]",
                                        "[-1, 1]",
                                        "[4000, 1]",
                                        "[3999, 2]",
                                        "[1, 9223372036854775807]",
                                        "[9223372036854775807, 1]",
                                        "[0, \"1\"]",
                                        "[0, 1.0]",
                                        "[0, null]",
                                        "[5, 1, 4, 1]",
                                        "[5, 2, 6, 1]",
                                        "[0, 1025]",
                                        "[0, 1000, 2000, 25]" };
    for (size_t i = 0; i < COUNT(blocks); i++) {
        assert_refused(note(blocks[i], "[0, 1]"), &err, ERROR_PEER, "pages that there are not");
    }
    for (size_t i = 0; i < COUNT(runs); i++) {
        assert_refused(note("0", runs[i]), &err, ERROR_PEER, "pages that there are not");
    }
    assert_int_equal(rejections_mark(&rejections, rig.send), 0);
    assert_int_equal(ram_dirty_pages(&rig.source), 0);
}

/* What a peer adds to a message is gone with it, and what is kept of all messages has an end. */
static void a_peer_cannot_make_it_keep_much(void **state) {
    (void)state;
    static char runs[8 * FRAME_MAX_PAGES];
    size_t length = 1;
    runs[0] = '[';
    for (unsigned i = 0; i < FRAME_MAX_PAGES; i++) {
        length += (size_t)snprintf(runs + length, sizeof(runs) - length, "%s%u,1", i ? "," : "", i);
    }
    snprintf(runs + length, sizeof(runs) - length, "]");
    json_t *message = json_pack("{s:i, s:o, s:s}", "block", 0, "runs", json_loads(runs, 0, NULL), "junk", runs);
    json_t *junk = json_object_get(message, "junk");
    unsigned taken = 0;
    while (rejections_take(&rejections, &rig.source, message, &err) == 0) {
        assert_true(++taken <= REJECTIONS_MAX_RUNS / FRAME_MAX_PAGES);
    }
    assert_int_equal(err.class, ERROR_PEER);
    assert_int_equal(taken, REJECTIONS_MAX_RUNS / FRAME_MAX_PAGES);
    assert_int_equal(junk->refcount, 1); /* nobody holds any of it */
    assert_int_equal(message->refcount, 1);
    assert_true(rejections.room * sizeof(rejections.runs[0]) <= 4u << 20);
    json_decref(message);
    assert_int_equal(rejections_mark(&rejections, rig.send), taken);
    assert_int_equal(rejections.room, 0);
}

static void not_for_ever(void **state) {
    (void)state;
    int taken = 0;
    while (note("0", "[0, 1]") == 0) {
        assert_true(++taken < 100000);
        rejections_mark(&rejections, rig.send);
    }
    assert_int_equal(err.class, ERROR_PEER);
}

#define EACH(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        EACH(pages_that_there_are_become_dirty),
        EACH(what_cannot_be_is_refused),
        EACH(a_peer_cannot_make_it_keep_much),
        EACH(not_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
