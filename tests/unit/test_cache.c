/* SPDX-License-Identifier: Apache-2.0 */
/* The cache of last sent versions, against a model of what the destination holds. */
#include "codec/delta.h"
#include "ram/block.h"
#include "ram/cache.h"
#include "support.h"

#include <pthread.h>

#define PAGE ((size_t)RAM_PAGE_SIZE)
#define CAPACITY (PAGE / 4)

/* What the destination holds of each page; a change that the cache gives must lead from there to `now`. */
struct model {
    struct cache *cache;
    size_t pages;
    uint64_t seed;
    uint8_t (*there)[RAM_PAGE_SIZE], (*now)[RAM_PAGE_SIZE];
    size_t changes; /* that the cache gave */
    const char *wrong;
};

static void model_open(struct model *m, uint64_t bytes, size_t pages, uint64_t seed) {
    *m = (struct model){ .cache = cache_open(bytes), .pages = pages, .seed = seed };
    m->there = calloc(pages, PAGE);
    m->now = calloc(pages, PAGE);
    assert_true(m->cache != NULL && m->there != NULL && m->now != NULL);
}

static void model_close(struct model *m) {
    cache_close(m->cache);
    free(m->there);
    free(m->now);
}

static void write_some(struct model *m, size_t page) {
    switch (random_below(&m->seed, 5)) {
    case 0: /* too much for a change */
        random_fill(&m->seed, m->now[page], PAGE);
        break;
    case 1: /* the same again */
        break;
    default:
        for (uint64_t n = random_below(&m->seed, 20) + 1; n > 0; n--) {
            m->now[page][random_below(&m->seed, PAGE)] = (uint8_t)random_next(&m->seed);
        }
    }
}

/* What a sender does with a page: as a change, or in full. May run on several threads with pages of their own. */
static void send_page(struct model *m, uint16_t block, size_t page, uint32_t pass) {
    uint8_t out[CAPACITY + 1];
    out[CAPACITY] = 0x5a;
    size_t n = cache_change(m->cache, block, page, pass, m->now[page], out, CAPACITY);
    if (n > CAPACITY || out[CAPACITY] != 0x5a) {
        m->wrong = "more than there is room for";
    }
    if (n > 0) {
        const uint8_t *in = out;
        m->changes++;
        if (delta_decode(&in, out + n, m->there[page], PAGE) < 0 || in != out + n) {
            m->wrong = "a change that does not decode";
        }
    } else {
        memcpy(m->there[page], m->now[page], PAGE);
    }
    if (memcmp(m->there[page], m->now[page], PAGE) != 0) {
        m->wrong = "the destination holds something else";
    }
}

static void step(struct model *m, uint16_t block, size_t page, uint32_t pass) {
    if (random_below(&m->seed, 10) == 0) { /* becomes zero, or is sent again from scratch */
        cache_drop(m->cache, block, page);
        memset(m->there[page], 0, PAGE);
        memset(m->now[page], 0, PAGE);
        return;
    }
    write_some(m, page);
    send_page(m, block, page, pass);
}

/* Whatever is put out and whatever is dropped: what the cache says always fits what is there. */
static void it_never_lies(void **state) {
    (void)state;
    static const uint64_t sizes[] = { 4, 12, 64, 1000 };
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct model m;
        model_open(&m, sizes[i] * PAGE, 200, 77 + i);
        for (uint32_t pass = 1; pass < 200; pass++) {
            uint64_t hot = random_below(&m.seed, m.pages) + 1;
            for (size_t page = 0; page < hot; page++) {
                step(&m, 0, page, pass);
            }
        }
        assert_null(m.wrong);
        assert_true(m.changes > 0);
        model_close(&m);
    }
}

static void sizes_are_whole_sets(void **state) {
    (void)state;
    assert_null(cache_open(0));
    assert_null(cache_open(4 * PAGE - 1));
    assert_int_equal(cache_size(NULL), 0);
    cache_close(NULL);
    for (uint64_t bytes = 4 * PAGE; bytes < 1000 * PAGE; bytes += 7 * PAGE + 1) {
        struct cache *c = cache_open(bytes);
        assert_non_null(c);
        uint64_t size = cache_size(c);
        assert_true(size <= bytes && bytes - size < CACHE_SET_BYTES && size % CACHE_SET_BYTES == 0);
        cache_close(c);
    }
}

static void a_limit_keeps_new_pages_out(void **state) {
    (void)state;
    struct cache *c = cache_open(64 * PAGE);
    uint8_t page[PAGE], out[PAGE];
    assert_non_null(c);
    memset(page, 1, sizeof(page));
    for (uint64_t p = 0; p < 8; p++) {
        assert_int_equal(cache_change(c, 0, p, 2, page, out, sizeof(out)), 0);
    }
    assert_int_equal(cache_held(c), 8 * PAGE);
    cache_limit(c, 8 * PAGE);
    assert_int_equal(cache_change(c, 0, 9, 2, page, out, sizeof(out)), 0);
    assert_int_equal(cache_held(c), 8 * PAGE);
    page[7] = 2;
    assert_true(cache_change(c, 0, 3, 3, page, out, sizeof(out)) > 0); /* what is in it is kept up to date */
    page[7] = 3;
    assert_true(cache_change(c, 0, 3, 4, page, out, sizeof(out)) > 0);
    cache_drop(c, 0, 3);
    cache_drop(c, 0, 3);
    assert_int_equal(cache_held(c), 7 * PAGE);
    cache_limit(c, 64 * PAGE);
    assert_int_equal(cache_change(c, 0, 9, 4, page, out, sizeof(out)), 0);
    assert_int_equal(cache_held(c), 8 * PAGE);
    cache_close(c);
}

static void blocks_do_not_meet(void **state) {
    (void)state;
    static const uint16_t blocks[] = { 0, 1, 255, UINT16_MAX - 1 };
    static const uint64_t pages[] = { 0, 1, (UINT64_C(1) << 40) - 1 };
    uint8_t page[RAM_PAGE_SIZE], out[CAPACITY];
    struct cache *c = cache_open(1024 * PAGE);
    assert_non_null(c);
    for (uint32_t pass = 1; pass <= 2; pass++) {
        for (size_t b = 0; b < COUNT(blocks); b++) {
            for (size_t p = 0; p < COUNT(pages); p++) {
                memset(page, (int)(b * 16 + p + 1), sizeof(page));
                size_t n = cache_change(c, blocks[b], pages[p], pass, page, out, sizeof(out));
                assert_int_equal(n, pass == 1 ? 0 : 1); /* and then: nothing has changed */
            }
        }
    }
    cache_close(c);
}

static void what_was_dropped_is_gone(void **state) {
    (void)state;
    uint8_t page[RAM_PAGE_SIZE] = { 9 }, out[CAPACITY];
    struct cache *c = cache_open(64 * PAGE);
    assert_non_null(c);
    cache_drop(c, 3, 5); /* nothing there */
    assert_int_equal(cache_change(c, 3, 5, 1, page, out, sizeof(out)), 0);
    assert_int_equal(cache_change(c, 3, 5, 2, page, out, sizeof(out)), 1);
    cache_drop(c, 3, 5);
    assert_int_equal(cache_change(c, 3, 5, 3, page, out, sizeof(out)), 0);
    assert_int_equal(cache_change(c, 3, 5, 4, page, out, sizeof(out)), 1);
    cache_close(c);
}

/* A change that is too large is none, and the page is known all the same. */
static void a_page_that_goes_in_full_is_replaced(void **state) {
    (void)state;
    uint64_t seed = 8;
    uint8_t page[RAM_PAGE_SIZE], out[CAPACITY];
    struct cache *c = cache_open(64 * PAGE);
    assert_non_null(c);
    for (uint32_t pass = 1; pass < 5; pass++) {
        random_fill(&seed, page, sizeof(page));
        assert_int_equal(cache_change(c, 0, 0, pass, page, out, sizeof(out)), 0);
    }
    page[17] ^= 1;
    assert_int_equal(cache_change(c, 0, 0, 5, page, out, sizeof(out)), 4); /* length, skip, byte, end */
    cache_close(c);
}

/* A working set larger than the cache keeps the part that fits, pass after pass. */
static void a_loop_larger_than_the_cache_is_kept_in_part(void **state) {
    (void)state;
    uint8_t page[RAM_PAGE_SIZE] = { 1 }, out[CAPACITY];
    struct cache *c = cache_open(256 * PAGE);
    assert_non_null(c);
    size_t known = 0;
    for (uint32_t pass = 1; pass <= 10; pass++) {
        known = 0;
        for (uint64_t i = 0; i < 2048; i++) {
            known += cache_change(c, 0, i, pass, page, out, sizeof(out)) > 0;
        }
    }
    assert_true(known > 200 && known <= 256);
    for (uint32_t pass = 20; pass < 22; pass++) { /* the loop is over: others may have the room */
        known = 0;
        for (uint64_t i = 10000; i < 10050; i++) {
            known += cache_change(c, 0, i, pass, page, out, sizeof(out)) > 0;
        }
    }
    assert_true(known > 40);
    cache_close(c);
}

#define THREADS 4u

struct worker {
    pthread_t thread;
    struct model m; /* pages of its own, in the cache of all */
    uint16_t block;
    uint32_t pass;
};

static void *work(void *opaque) {
    struct worker *w = opaque;
    for (size_t page = 0; page < w->m.pages; page++) {
        step(&w->m, w->block, page, w->pass);
    }
    return NULL;
}

/* Threads that share sets, and put out each other's pages. */
static void threads_share_it(void **state) {
    (void)state;
    struct worker workers[THREADS];
    struct cache *shared = cache_open(64 * PAGE);
    for (unsigned i = 0; i < THREADS; i++) {
        model_open(&workers[i].m, 4 * PAGE, 100, i + 1);
        cache_close(workers[i].m.cache);
        workers[i].m.cache = shared;
        workers[i].block = (uint16_t)i;
    }
    for (uint32_t pass = 1; pass < 100; pass++) {
        for (unsigned i = 0; i < THREADS; i++) {
            workers[i].pass = pass;
            assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
        }
        for (unsigned i = 0; i < THREADS; i++) {
            pthread_join(workers[i].thread, NULL);
            assert_null(workers[i].m.wrong);
        }
    }
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].m.cache = NULL;
        model_close(&workers[i].m);
    }
    cache_close(shared);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_never_lies),
        cmocka_unit_test(sizes_are_whole_sets),
        cmocka_unit_test(a_limit_keeps_new_pages_out),
        cmocka_unit_test(blocks_do_not_meet),
        cmocka_unit_test(what_was_dropped_is_gone),
        cmocka_unit_test(a_page_that_goes_in_full_is_replaced),
        cmocka_unit_test(a_loop_larger_than_the_cache_is_kept_in_part),
        cmocka_unit_test(threads_share_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
