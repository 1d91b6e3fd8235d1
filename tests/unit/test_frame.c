/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"
#include "wire/frame.h"

#define PAGES_0 UINT64_C(1000)
#define PAGES_1 (UINT64_C(1) << 24) /* a run of all of it does not fit */
#define MAX_PAGES 128u
#define MAX_PAYLOAD (MAX_PAGES * FRAME_PAGE_SIZE)

static const uint64_t block_pages[] = { PAGES_0, PAGES_1 };
static const struct frame_bounds bounds = { .space[FRAME_RAM] = { 2, block_pages },
                                            .max_pages = MAX_PAGES,
                                            .max_payload = MAX_PAYLOAD };

/* A frame on the wire. Room for more runs than are allowed. */
static uint8_t wire[FRAME_HEADER_SIZE + (FRAME_MAX_PAGES + 8) * FRAME_RUN_SIZE];
static struct frame_run runs[FRAME_MAX_PAGES + 8], got_runs[FRAME_MAX_PAGES + 8];

static const struct frame sample = { .kind = FRAME_PAGES,
                                     .codec = 1,
                                     .thing = FRAME_RAM,
                                     .index = 1,
                                     .pass = 7,
                                     .runs = 3,
                                     .pages = 9,
                                     .payload = 12345,
                                     .digest = { UINT64_C(0x1122334455667788), UINT64_C(0x99aabbccddeeff00) } };

static void sample_runs(void) {
    runs[0] = (struct frame_run){ 0, 2 };
    runs[1] = (struct frame_run){ 2, 1 };
    runs[2] = (struct frame_run){ PAGES_1 - 6, 6 };
}

/* Both halves of decoding; the header's own number of runs has been held against what is there. */
static int decode(struct frame *f, struct error *err) {
    if (frame_decode_header(wire, &bounds, f, err) < 0) {
        return -1;
    }
    return frame_decode_runs(wire, &bounds, f, got_runs, err);
}

static void accepted(const struct frame *f) {
    struct frame got;
    struct error err = { 0 };
    size_t size = frame_encode(f, runs, wire);
    assert_int_equal(size, FRAME_HEADER_SIZE + f->runs * FRAME_RUN_SIZE);
    assert_ok(decode(&got, &err) == 0, &err);
    assert_int_equal(got.kind, f->kind);
    assert_int_equal(got.codec, f->codec);
    assert_int_equal(got.index, f->index);
    assert_int_equal(got.thing, f->thing);
    assert_int_equal(got.pass, f->pass);
    assert_int_equal(got.runs, f->runs);
    assert_int_equal(got.pages, f->pages);
    assert_int_equal(got.payload, f->payload);
    assert_true(got.digest[0] == f->digest[0] && got.digest[1] == f->digest[1]);
    for (uint32_t i = 0; i < f->runs; i++) {
        assert_true(got_runs[i].first == runs[i].first && got_runs[i].count == runs[i].count);
    }
}

static void refused(const struct frame *f, const char *text) {
    struct frame got;
    struct error err = { 0 };
    frame_encode(f, runs, wire);
    assert_refused(decode(&got, &err), &err, ERROR_CORRUPT, text);
}

static void round_trips(void **state) {
    (void)state;
    sample_runs();
    accepted(&sample);
    struct frame zero = {
        .kind = FRAME_ZERO, .thing = FRAME_RAM, .index = 1, .pass = UINT32_MAX, .runs = 3, .pages = 9
    };
    accepted(&zero);
    struct frame end = { .kind = FRAME_PASS_END, .pass = 1, .pages = UINT32_MAX };
    accepted(&end);
}

static void any_flipped_bit_is_refused(void **state) {
    (void)state;
    struct frame kinds[] = {
        sample,
        { .kind = FRAME_DELTA, .thing = FRAME_RAM, .index = 1, .pass = 3, .runs = 3, .pages = 9, .payload = 9 },
        { .kind = FRAME_ZERO, .thing = FRAME_RAM, .index = 1, .pass = 3, .runs = 3, .pages = 9 },
        { .kind = FRAME_PASS_END, .pass = 1, .pages = 55 }
    };
    sample_runs();
    for (size_t k = 0; k < COUNT(kinds); k++) {
        size_t size = frame_encode(&kinds[k], runs, wire);
        for (size_t bit = 0; bit < size * 8; bit++) {
            struct frame got;
            struct error err = { 0 };
            wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_refused(decode(&got, &err), &err, ERROR_CORRUPT, NULL);
            wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

/* A PAGES frame of `count` runs of one page, with a page between them. */
static struct frame many_runs(uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        runs[i] = (struct frame_run){ i * UINT64_C(2), 1 };
    }
    struct frame f = sample;
    f.runs = f.pages = count;
    return f;
}

static void the_number_of_runs(void **state) {
    (void)state;
    struct frame f = many_runs(1);
    accepted(&f);
    f = many_runs(0);
    f.pages = 1;
    refused(&f, "no pages");
    struct frame zero = { .kind = FRAME_ZERO, .thing = FRAME_RAM, .index = 1, .pass = 2, .runs = 0, .pages = 0 };
    refused(&zero, "no runs");
    static const struct {
        uint32_t count;
        bool good;
    } rows[] = { { FRAME_MAX_PAGES - 1, true }, { FRAME_MAX_PAGES, true }, { FRAME_MAX_PAGES + 1, false } };
    for (size_t i = 0; i < COUNT(rows); i++) {
        f = many_runs(rows[i].count);
        f.kind = FRAME_ZERO;
        f.payload = 0;
        if (rows[i].good) {
            accepted(&f);
        } else {
            refused(&f, "runs 1025");
        }
    }
    struct frame end = { .kind = FRAME_PASS_END, .pass = 1, .runs = 1 };
    refused(&end, "runs 1");
}

static void the_number_of_pages(void **state) {
    (void)state;
    struct frame f = many_runs(MAX_PAGES - 1);
    accepted(&f);
    f = many_runs(MAX_PAGES);
    accepted(&f);
    f = many_runs(MAX_PAGES + 1);
    refused(&f, "pages 129");
    f = many_runs(3);
    f.pages = 0;
    refused(&f, "no pages");
    f.pages = 2; /* the runs say 3 */
    refused(&f, "page count of 2");
    f.pages = 4;
    refused(&f, "page count of 4");
    f.kind = FRAME_ZERO;
    f.payload = 0;
    refused(&f, "page count of 4");
    f.pages = 3;
    accepted(&f);
}

static void the_payload(void **state) {
    (void)state;
    sample_runs();
    struct frame f = sample;
    static const uint32_t good[] = { 1, MAX_PAYLOAD - 1, MAX_PAYLOAD };
    for (size_t i = 0; i < COUNT(good); i++) {
        f.payload = good[i];
        accepted(&f);
    }
    f.payload = 0;
    refused(&f, "no pages");
    f.payload = MAX_PAYLOAD + 1;
    refused(&f, "payload of 524289");
    f.payload = UINT32_MAX;
    refused(&f, "payload of 4294967295");
    f.kind = FRAME_ZERO;
    f.payload = 1;
    refused(&f, "payload of 1");
    f.payload = 0;
    accepted(&f);
    struct frame end = { .kind = FRAME_PASS_END, .pass = 1, .payload = 1 };
    refused(&end, "payload of 1");
}

static void the_block_and_the_kind(void **state) {
    (void)state;
    struct frame f = many_runs(1);
    static const uint16_t blocks[] = { 0, 1 };
    for (size_t i = 0; i < COUNT(blocks); i++) {
        f.index = blocks[i];
        accepted(&f);
    }
    f.index = 2;
    refused(&f, "RAM block 2");
    f.index = UINT16_MAX;
    refused(&f, "RAM block 65535");
    f.index = 0;
    static const uint8_t kinds[] = { 0, 5, 255 };
    for (size_t i = 0; i < COUNT(kinds); i++) {
        f.kind = kinds[i];
        refused(&f, "the kind");
    }
}

/* What a frame is about: guest RAM, and for the end of a pass all there is. */
static void the_thing(void **state) {
    (void)state;
    struct frame f = many_runs(1), end = { .kind = FRAME_PASS_END, .pass = 1 };
    static const uint8_t wrong[] = { FRAME_OF_ALL, FRAME_THINGS, FRAME_THINGS + 1, 255 };
    static const uint8_t kinds[] = { FRAME_PAGES, FRAME_DELTA, FRAME_ZERO };
    for (size_t k = 0; k < COUNT(kinds); k++) {
        f.kind = kinds[k];
        f.payload = kinds[k] == FRAME_ZERO ? 0 : 1;
        f.thing = FRAME_RAM;
        accepted(&f);
        for (size_t i = 0; i < COUNT(wrong); i++) {
            f.thing = wrong[i];
            refused(&f, "the kind of thing");
        }
    }
    accepted(&end);
    end.thing = FRAME_RAM;
    refused(&end, "the kind of thing 1");
    end.thing = FRAME_OF_ALL;
    end.index = 1;
    refused(&end, "the index 1");
}

/* With a check that is right, too. */
static void reserved_bytes_are_zero(void **state) {
    (void)state;
    struct error err = { 0 };
    struct frame f = many_runs(1), got;
    for (size_t at = 42; at < 48; at++) {
        frame_encode(&f, runs, wire);
        wire[at] = 1;
        assert_refused(frame_decode_header(wire, &bounds, &got, &err), &err, ERROR_CORRUPT, "a reserved byte of 1");
    }
}

static void one_run(uint16_t block, uint64_t first, uint32_t count, const char *refusal) {
    struct frame f = { .kind = FRAME_ZERO, .thing = FRAME_RAM, .index = block, .pass = 1, .runs = 1, .pages = count };
    runs[0] = (struct frame_run){ first, count };
    if (refusal == NULL) {
        accepted(&f);
    } else {
        refused(&f, refusal);
    }
}

static void runs_lie_in_the_block(void **state) {
    (void)state;
    one_run(0, 0, PAGES_0, NULL);
    one_run(0, 0, PAGES_0 - 1, NULL);
    one_run(0, 0, PAGES_0 + 1, "the page 0");
    one_run(0, PAGES_0 - 1, 1, NULL);
    one_run(0, PAGES_0 - 1, 2, "the page 999");
    one_run(0, PAGES_0, 1, "the page 1000");
    one_run(0, PAGES_0 - 2, 1, NULL);
    one_run(0, (UINT64_C(1) << 40) - 1, FRAME_MAX_RUN_PAGES, "the page");
    /* the same page is in one block and not in the other */
    one_run(1, PAGES_0, 1, NULL);
    one_run(1, PAGES_1 - 1, 1, NULL);
    one_run(1, PAGES_1, 1, "the page");
    /* the largest count that 24 bits hold, and none */
    one_run(1, 0, FRAME_MAX_RUN_PAGES, NULL);
    one_run(1, 1, FRAME_MAX_RUN_PAGES, NULL);
    one_run(1, 2, FRAME_MAX_RUN_PAGES, "the page 2");
    one_run(1, 0, 0, "the page 0");
}

static void two_runs(uint64_t first, uint32_t count, uint64_t second, uint32_t count2, bool good) {
    struct frame f = sample;
    runs[0] = (struct frame_run){ first, count };
    runs[1] = (struct frame_run){ second, count2 };
    f.runs = 2;
    f.pages = count + count2;
    if (good) {
        accepted(&f);
    } else {
        refused(&f, "the page");
    }
}

static void runs_ascend(void **state) {
    (void)state;
    two_runs(10, 5, 16, 1, true);
    two_runs(10, 5, 15, 1, true); /* side by side: odd, but in order */
    two_runs(10, 5, 14, 1, false);
    two_runs(10, 5, 10, 5, false);
    two_runs(10, 5, 9, 1, false);
    two_runs(10, 5, 0, 1, false);
    two_runs(10, 5, 5, 5, false);
    two_runs(10, 0, 10, 1, false);
    two_runs(10, 1, 12, 0, false);
}

static void the_magic(void **state) {
    (void)state;
    struct frame got;
    struct error err = { 0 };
    memset(wire, 0, FRAME_HEADER_SIZE);
    assert_refused(decode(&got, &err), &err, ERROR_CORRUPT, "the magic 0");
    memset(wire, 0xff, FRAME_HEADER_SIZE);
    assert_refused(decode(&got, &err), &err, ERROR_CORRUPT, "the magic");
}

static void no_such_thing_in_this_migration(void **state) {
    (void)state;
    static const struct frame_bounds empty = { .max_pages = MAX_PAGES, .max_payload = MAX_PAYLOAD };
    struct frame f = many_runs(1), got;
    struct error err = { 0 };
    f.index = 0;
    frame_encode(&f, runs, wire);
    assert_refused(frame_decode_header(wire, &empty, &got, &err), &err, ERROR_CORRUPT, "kind of thing 1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(any_flipped_bit_is_refused),
        cmocka_unit_test(the_number_of_runs),
        cmocka_unit_test(the_number_of_pages),
        cmocka_unit_test(the_payload),
        cmocka_unit_test(the_block_and_the_kind),
        cmocka_unit_test(the_thing),
        cmocka_unit_test(reserved_bytes_are_zero),
        cmocka_unit_test(runs_lie_in_the_block),
        cmocka_unit_test(runs_ascend),
        cmocka_unit_test(the_magic),
        cmocka_unit_test(no_such_thing_in_this_migration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
