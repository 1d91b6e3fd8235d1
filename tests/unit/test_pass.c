/* SPDX-License-Identifier: Apache-2.0 */
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
        assert_ok(ram_open_source(&ram, i, "block", block_sizes[i] * RAM_PAGE_SIZE, RAM_PAGE_SIZE, -1, &err) == 0,
                  &err);
    }
    pass_init(&pass, &ram);
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

/* Takes chunks; does a part of some and gives the rest back. */
static void *work(void *opaque) {
    struct pass_chunk chunk;
    uint64_t n = (uintptr_t)opaque;
    while (pass_next_chunk(&pass, &chunk)) {
        struct pass_chunk part = chunk;
        uint64_t size = chunk.end - chunk.first;
        if (++n % 3 == 0 && size > 64) {
            part.end = chunk.first + size / 128 * 64 + 64;
        }
        mark(&part);
        chunk.first = part.end;
        if (chunk.first < chunk.end) {
            pass_return_chunk(&pass, &chunk);
        }
    }
    return NULL;
}

static void every_page_is_in_one_chunk(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    open_pass();
    for (unsigned n = 1; n <= 20; n++) {
        pass_begin(&pass);
        assert_true(pass_has_chunk(&pass));
        for (uintptr_t i = 0; i < THREADS; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)i), 0);
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

static void what_is_given_back_comes_next(void **state) {
    (void)state;
    struct pass_chunk first, rest, again;
    open_pass();
    pass_begin(&pass);
    assert_true(pass_next_chunk(&pass, &first));
    rest = first;
    rest.first += 64;
    pass_return_chunk(&pass, &rest);
    assert_true(pass_next_chunk(&pass, &again));
    assert_memory_equal(&again, &rest, sizeof(rest));
    close_pass();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_page_is_in_one_chunk),
        cmocka_unit_test(before_the_first_pass_there_is_nothing),
        cmocka_unit_test(what_is_given_back_comes_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
