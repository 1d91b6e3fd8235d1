/* SPDX-License-Identifier: Apache-2.0 */
/* Heat of segments, and which of them wait. */
#include "base/bits.h"
#include "base/clock.h"
#include "ram/heat.h"
#include "ram/pass.h"
#include "support.h"

#include <math.h>

#define CHUNK ((uint64_t)PASS_CHUNK_PAGES)
#define CHUNK_SIZE (CHUNK * RAM_PAGE_SIZE)

/* Pages: ten chunks, one page, two chunks and a half. */
static const uint64_t block_pages[] = { 10 * CHUNK, 1, 2 * CHUNK + CHUNK / 2 };
#define CHUNKS 14u

static struct ram ram;
static struct heat heat;
static uint64_t passed[1], chunks[1];

static int setup(void **state) {
    (void)state;
    struct error err = { 0 };
    assert_ok(ram_init(&ram, COUNT(block_pages), &err) == 0, &err);
    for (size_t i = 0; i < COUNT(block_pages); i++) {
        uint64_t size = block_pages[i] * RAM_PAGE_SIZE;
        assert_ok(ram_open_source(&ram, i, backing_on(-1, size, RAM_PAGE_SIZE, false), &err) == 0, &err);
        bits_set_range(ram.blocks[i].dirty, 0, block_pages[i]);
    }
    passed[0] = 0;
    chunks[0] = ~UINT64_C(0);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    heat_close(&heat);
    ram_free(&ram);
    return 0;
}

static void open_heat(uint64_t segment_size) {
    struct error err = { 0 };
    assert_ok(heat_open(&heat, &ram, segment_size, &err) == 0, &err);
    assert_int_equal(heat_count(&heat), block_pages[0] + block_pages[1] + block_pages[2]);
}

static uint64_t choose(uint64_t most_chunks, uint64_t most_dirty) {
    return heat_choose(&heat, &(struct heat_limits){ most_chunks, most_dirty }, passed, chunks);
}

static void segments_cover_all(void **state) {
    (void)state;
    static const uint64_t sizes[] = { 1, CHUNK_SIZE, CHUNK_SIZE + 1, 4 * CHUNK_SIZE, UINT64_C(1) << 30 };
    static const size_t counts[] = { 14, 14, 5 + 1 + 2, 3 + 1 + 1, 3 };
    for (size_t i = 0; i < COUNT(sizes); i++) {
        open_heat(sizes[i]);
        assert_int_equal(heat.count, counts[i]);
        assert_int_equal(heat.chunks, CHUNKS);
        uint64_t chunk = 0;
        for (size_t k = 0; k < heat.count; k++) {
            assert_int_equal(heat.segments[k].chunk, chunk);
            assert_int_equal(heat.segments[k].dirty, heat.segments[k].pages);
            chunk += heat.segments[k].chunks;
        }
        assert_int_equal(chunk, CHUNKS);
        heat_close(&heat);
    }
}

static void cold_memory_never_waits(void **state) {
    (void)state;
    open_heat(CHUNK_SIZE);
    assert_int_equal(choose(CHUNKS, UINT64_MAX), 0);
    assert_int_equal(chunks[0], 0);
    heat_note(&heat, 0, 5, 6); /* a single page of 512 makes no segment hot */
    assert_int_equal(choose(CHUNKS, UINT64_MAX), 0);
}

static void the_hottest_wait(void **state) {
    (void)state;
    open_heat(CHUNK_SIZE);
    heat_note(&heat, 0, 2 * CHUNK, 3 * CHUNK);
    heat_note(&heat, 0, 7 * CHUNK, 8 * CHUNK);
    heat_note(&heat, 0, 7 * CHUNK, 8 * CHUNK);
    heat_note(&heat, 2, 2 * CHUNK, 2 * CHUNK + CHUNK / 2); /* as hot as the first, by page */
    assert_int_equal(choose(1, UINT64_MAX), CHUNK);
    assert_int_equal(chunks[0], UINT64_C(1) << 7);
    assert_int_equal(choose(2, UINT64_MAX), 2 * CHUNK);
    assert_int_equal(chunks[0], UINT64_C(1) << 7 | UINT64_C(1) << 2);
    assert_int_equal(choose(14, UINT64_MAX), 2 * CHUNK + CHUNK / 2);
    assert_int_equal(chunks[0], UINT64_C(1) << 7 | UINT64_C(1) << 2 | UINT64_C(1) << 13);
    assert_int_equal(choose(0, UINT64_MAX), 0);
}

static void what_is_dirty_is_limited_too(void **state) {
    (void)state;
    open_heat(CHUNK_SIZE);
    heat_note(&heat, 0, 0, 10 * CHUNK);
    assert_int_equal(choose(CHUNKS, 3 * CHUNK - 1), 2 * CHUNK);
    bits_clear_range(ram.blocks[0].dirty, 0, 10 * CHUNK);
    bits_set_range(ram.blocks[0].dirty, 9 * CHUNK, 9 * CHUNK + 5);
    heat_count(&heat);
    assert_int_equal(choose(1, UINT64_MAX), 5); /* clean segments do not use the limit up */
    assert_int_equal(chunks[0], UINT64_C(1) << 9);
}

static void what_was_passed_over_waits_on(void **state) {
    (void)state;
    open_heat(2 * CHUNK_SIZE);
    heat_note(&heat, 0, 4 * CHUNK, 6 * CHUNK);
    passed[0] = 1; /* a chunk of the first segment, which is cold now */
    assert_int_equal(choose(2, UINT64_MAX), 2 * CHUNK);
    assert_int_equal(chunks[0], 3);
    assert_int_equal(choose(4, UINT64_MAX), 4 * CHUNK);
    assert_int_equal(chunks[0], 3 | 3 << 4);
}

static void a_range_spans_segments(void **state) {
    (void)state;
    open_heat(CHUNK_SIZE);
    heat_note(&heat, 0, CHUNK / 2, 2 * CHUNK + 1);
    assert_int_equal((int)heat.segments[0].found, CHUNK / 2);
    assert_int_equal((int)heat.segments[1].found, CHUNK);
    assert_int_equal((int)heat.segments[2].found, 1);
    heat_note(&heat, 1, 0, 1);
    assert_int_equal((int)heat.segments[10].found, 1);
}

static void heat_goes_by(void **state) {
    (void)state;
    open_heat(CHUNK_SIZE);
    for (int i = 0; i < 8; i++) {
        heat_note(&heat, 0, 0, CHUNK); /* very hot, long ago */
    }
    heat_age(&heat, 20 * CLOCK_S);
    heat_note(&heat, 0, CHUNK, 2 * CHUNK); /* once, now */
    assert_int_equal(choose(1, UINT64_MAX), CHUNK);
    assert_int_equal(chunks[0], 2);
    heat_age(&heat, 1000 * CLOCK_S);
    assert_int_equal(choose(CHUNKS, UINT64_MAX), 0);
}

/* The share is kept whatever the heat, and nothing colder waits while something hotter does not. */
static void invented_heat(void **state) {
    (void)state;
    open_heat(CHUNK_SIZE);
    for (unsigned round = 0; round < 500; round++) {
        for (unsigned i = 0; i < 10; i++) {
            uint64_t pages = (round * 7919u + i * 104729u) % CHUNK;
            heat_note(&heat, 0, i * CHUNK, i * CHUNK + pages);
        }
        uint64_t most = round % (CHUNKS + 1);
        choose(most, UINT64_MAX);
        assert_true(bits_count(chunks, CHUNKS) <= most);
        float coldest = INFINITY;
        for (unsigned i = 0; i < 10; i++) {
            coldest = bits_test(chunks, i) && heat.segments[i].found < coldest ? heat.segments[i].found : coldest;
        }
        for (unsigned i = 0; i < 10; i++) { /* within a class there is no order: a class is 9 % wide */
            assert_true(bits_test(chunks, i) || heat.segments[i].found < coldest * 1.1F || most == 0);
        }
        heat_age(&heat, CLOCK_S);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(segments_cover_all, setup, teardown),
        cmocka_unit_test_setup_teardown(cold_memory_never_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(the_hottest_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_dirty_is_limited_too, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_passed_over_waits_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_range_spans_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(heat_goes_by, setup, teardown),
        cmocka_unit_test_setup_teardown(invented_heat, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
