/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/pass.h"
#include "support.h"

#include <poll.h>

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

static void open_pass(unsigned threads) {
    struct error err = { 0 };
    assert_ok(ram_init(&ram, BLOCKS, &err) == 0, &err);
    for (size_t i = 0; i < BLOCKS; i++) {
        assert_ok(ram_open_source(&ram, i, "block", block_sizes[i] * RAM_PAGE_SIZE, RAM_PAGE_SIZE, -1, &err) == 0,
                  &err);
    }
    assert_ok(pass_init(&pass, &ram, threads, &err) == 0, &err);
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
    uint32_t number = 0;
    (void)opaque;
    while (pass_wait(&pass, number, &number)) {
        struct pass_chunk chunk;
        while (pass_next_chunk(&pass, &chunk)) {
            mark(&chunk);
        }
        pass_leave(&pass);
    }
    return NULL;
}

static int wait_finished(struct error *err) {
    for (;;) {
        int rc = pass_poll(&pass, err);
        if (rc != 0) {
            return rc;
        }
        struct pollfd p = { .fd = pass.event_fd, .events = POLLIN };
        assert_int_equal(poll(&p, 1, 40000), 1);
    }
}

static void every_page_is_in_one_chunk(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    struct error err = { 0 };
    open_pass(THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work, NULL), 0);
    }
    assert_int_equal(pass_poll(&pass, &err), 0); /* none has begun */
    for (unsigned n = 1; n <= 20; n++) {
        pass_start(&pass);
        assert_ok(wait_finished(&err) == 1, &err);
        check_seen(n);
        assert_int_equal(pass.number, n);
        assert_int_equal(pass_poll(&pass, &err), 1); /* it stays finished until the next one starts */
    }
    pass_end_threads(&pass);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    close_pass();
}

static void ending_before_any_pass(void **state) {
    (void)state;
    pthread_t thread;
    open_pass(1);
    assert_int_equal(pthread_create(&thread, NULL, work, NULL), 0);
    pass_end_threads(&pass);
    pthread_join(thread, NULL);
    check_seen(0);
    close_pass();
}

static void a_pass_is_finished_when_all_have_left(void **state) {
    (void)state;
    struct error err = { 0 };
    uint32_t number = 0;
    open_pass(2);
    pass_start(&pass);
    assert_true(pass_wait(&pass, 0, &number));
    assert_int_equal(number, 1);
    assert_int_equal(pass_poll(&pass, &err), 0);
    pass_leave(&pass);
    assert_int_equal(pass_poll(&pass, &err), 0);
    pass_leave(&pass);
    assert_int_equal(pass_poll(&pass, &err), 1);
    close_pass();
}

static void the_first_failure_is_reported(void **state) {
    (void)state;
    struct error err = { 0 }, first = { 0 }, second = { 0 };
    error_set(&first, ERROR_LINK, "channel 1 broke");
    error_set(&second, ERROR_SYSTEM, "something else");
    open_pass(3);
    pass_start(&pass);
    pass_leave(&pass);
    pass_fail(&pass, &first);
    pass_fail(&pass, &second);
    assert_refused(wait_finished(&err), &err, ERROR_LINK, "channel 1 broke");
    assert_refused(pass_poll(&pass, &err), &err, ERROR_LINK, "channel 1 broke"); /* and does not go away */
    pass_start(&pass);
    assert_refused(pass_poll(&pass, &err), &err, ERROR_LINK, "channel 1 broke");
    close_pass();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_page_is_in_one_chunk),
        cmocka_unit_test(ending_before_any_pass),
        cmocka_unit_test(a_pass_is_finished_when_all_have_left),
        cmocka_unit_test(the_first_failure_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
