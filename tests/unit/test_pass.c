/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bits.h"
#include "ram/pass.h"
#include "support.h"

#include <pthread.h>

/* Sizes in pages: whole chunks, one page less and more, single pages, a word's border. */
static const uint64_t block_sizes[] = { PASS_CHUNK_PAGES,     1,  PASS_CHUNK_PAGES + 1,     PASS_CHUNK_PAGES - 1, 63,
                                        5 * PASS_CHUNK_PAGES, 64, 3 * PASS_CHUNK_PAGES + 77 };
#define BLOCKS COUNT(block_sizes)
#define MOST_PAGES (5 * PASS_CHUNK_PAGES)
#define THREADS 4u

static struct ram ram;
static struct pass pass;
static _Atomic unsigned char seen[BLOCKS][MOST_PAGES];
static _Atomic unsigned bad_chunks;

static void open_pass(void) {
    struct error err = { 0 };
    assert_ok(ram_init(&ram, BLOCKS, &err) == 0, &err);
    for (size_t i = 0; i < BLOCKS; i++) {
        assert_ok(
            ram_open_source(&ram, i, backing_on(-1, block_sizes[i] * RAM_PAGE_SIZE, RAM_PAGE_SIZE, false), &err) == 0,
            &err);
    }
    assert_ok(pass_init(&pass, &ram, &err) == 0, &err);
    memset(seen, 0, sizeof(seen));
    atomic_store(&bad_chunks, 0);
}

static void close_pass(void) {
    pass_destroy(&pass);
    ram_free(&ram);
}

static void mark(const struct pass_chunk *chunk) {
    bool good = chunk->index < BLOCKS && chunk->block == &ram.blocks[chunk->index] && chunk->first < chunk->end &&
                chunk->end <= block_sizes[chunk->index] && chunk->first % 64 == 0;
    if (!good) {
        atomic_fetch_add(&bad_chunks, 1);
        return;
    }
    for (uint64_t page = chunk->first; page < chunk->end; page++) {
        atomic_fetch_add(&seen[chunk->index][page], 1);
    }
}

static void check_seen(unsigned times) {
    assert_int_equal(atomic_load(&bad_chunks), 0);
    for (size_t i = 0; i < BLOCKS; i++) {
        for (uint64_t page = 0; page < MOST_PAGES; page++) {
            assert_int_equal(seen[i][page], page < block_sizes[i] ? times : 0);
        }
    }
}

static void *work(void *opaque) {
    struct pass_chunk chunk;
    (void)opaque;
    while (pass_next_chunk(&pass, &chunk)) {
        mark(&chunk);
    }
    return NULL;
}

static void every_page_is_in_one_chunk(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    open_pass();
    for (unsigned n = 1; n <= 20; n++) {
        pass_begin(&pass, true);
        assert_true(pass_has_chunk(&pass));
        for (unsigned i = 0; i < THREADS; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, work, NULL), 0);
        }
        for (unsigned i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
        }
        assert_false(pass_has_chunk(&pass));
        check_seen(n);
    }
    close_pass();
}

static void before_the_first_pass_there_is_nothing(void **state) {
    (void)state;
    struct pass_chunk chunk;
    open_pass();
    assert_false(pass_has_chunk(&pass));
    assert_false(pass_next_chunk(&pass, &chunk));
    close_pass();
}

static void mark_segments(const uint64_t *waiting, bool whole) {
    struct pass_chunk chunk;
    pass_set_waiting(&pass, waiting);
    pass_begin(&pass, whole);
    while (pass_next_chunk(&pass, &chunk)) {
        mark(&chunk);
    }
}

static void what_waits_is_not_handed_out(void **state) {
    (void)state;
    open_pass();
    /* The chunks: 0; 1; 2, 3; 4; 5; 6 to 10; 11; 12 to 15. The second block, and one in the middle of the sixth. */
    uint64_t waiting[1] = { UINT64_C(1) << 1 | UINT64_C(1) << 8 }, passed[1];
    bits_set_range(ram.blocks[5].dirty, 0, 5 * PASS_CHUNK_PAGES);
    bits_set_range(ram.blocks[5].written, 2 * PASS_CHUNK_PAGES - 3, 2 * PASS_CHUNK_PAGES + 7);
    mark_segments(waiting, false);
    pass_get_passed(&pass, passed);
    assert_int_equal(passed[0], waiting[0]);
    assert_int_equal(seen[1][0], 0);
    for (uint64_t page = 0; page < 5 * PASS_CHUNK_PAGES; page++) {
        assert_int_equal(seen[5][page], page / PASS_CHUNK_PAGES != 2);
    }
    /* What was written there is dirty already, and counts once. */
    assert_int_equal(pass_fresh_pages(&pass), 3);
    close_pass();
}

static void nothing_waits_in_a_whole_pass(void **state) {
    (void)state;
    open_pass();
    uint64_t all[1] = { ~UINT64_C(0) }, passed[1];
    mark_segments(all, true);
    check_seen(1);
    pass_get_passed(&pass, passed);
    assert_int_equal(passed[0], 0);
    mark_segments(all, false);
    check_seen(1);
    mark_segments(all, true);
    check_seen(2);
    close_pass();
}

/* What is chosen while the pass runs counts from there on. */
static void what_was_handed_out_does_not_wait(void **state) {
    (void)state;
    struct pass_chunk chunk;
    uint64_t none[1] = { 0 }, all[1] = { ~UINT64_C(0) }, passed[1];
    open_pass();
    pass_set_waiting(&pass, none);
    pass_begin(&pass, false);
    assert_true(pass_next_chunk(&pass, &chunk));
    pass_set_waiting(&pass, all);
    assert_false(pass_next_chunk(&pass, &chunk));
    pass_get_passed(&pass, passed);
    assert_int_equal(passed[0], 0xfffe);
    close_pass();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_page_is_in_one_chunk),        cmocka_unit_test(before_the_first_pass_there_is_nothing),
        cmocka_unit_test(what_waits_is_not_handed_out),      cmocka_unit_test(nothing_waits_in_a_whole_pass),
        cmocka_unit_test(what_was_handed_out_does_not_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
