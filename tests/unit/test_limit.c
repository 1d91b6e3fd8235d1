/* SPDX-License-Identifier: Apache-2.0 */
/* The limit is kept by booking: what is checked here is the books, not how long anything took. */
#include "base/limit.h"
#include "support.h"

#include <pthread.h>

#define HOUR (3600 * CLOCK_S)

static void no_limit_books_nothing(void **state) {
    (void)state;
    struct limit l = { 0 };
    limit_wait(&l, 1u << 30);
    assert_int_equal(atomic_load(&l.next_free), 0);
}

static void every_byte_is_booked(void **state) {
    (void)state;
    struct limit l = { 0 };
    limit_set(&l, 1000 * 1000 * 1000); /* a ns a byte */
    int64_t begin = clock_now();
    for (int i = 0; i < 100; i++) {
        int64_t before = atomic_load(&l.next_free), now = clock_now();
        limit_wait(&l, 1000 + (size_t)i);
        int64_t from = before > now ? before : now;
        assert_true(atomic_load(&l.next_free) >= from + 1000 + i);
    }
    /* 100 * 1000 + 4950 bytes: the bucket cannot be free before that has drained */
    assert_true(atomic_load(&l.next_free) >= begin + 104950);
}

static void what_is_lifted_books_nothing(void **state) {
    (void)state;
    struct limit l = { 0 };
    limit_set(&l, 1000 * 1000);
    int64_t ahead = clock_now() + HOUR;
    atomic_store(&l.next_free, ahead);
    limit_lift(&l); /* so that the wait ends at once … */
    limit_wait(&l, 500);
    assert_true(atomic_load(&l.next_free) == ahead); /* … and what is lifted books nothing */
    assert_true(atomic_load(&l.off));
}

/* Waiters for a bucket that is an hour ahead. */
struct waiter {
    struct limit *limit;
    size_t bytes;
    pthread_t thread;
    _Atomic bool done;
};

static void *wait_for_limit(void *opaque) {
    struct waiter *w = opaque;
    limit_wait(w->limit, w->bytes);
    atomic_store(&w->done, true);
    return NULL;
}

#define WAITERS 4

static void start_waiters(struct limit *l, struct waiter *w, int64_t ahead) {
    limit_set(l, 1000 * 1000);
    atomic_store(&l->next_free, ahead);
    int64_t booked = 0;
    for (int i = 0; i < WAITERS; i++) {
        w[i].limit = l;
        w[i].bytes = 100u * (unsigned)(i + 1);
        booked += (int64_t)w[i].bytes * 1000;
        assert_int_equal(pthread_create(&w[i].thread, NULL, wait_for_limit, &w[i]), 0);
    }
    /* all have booked, side by side, each byte once */
    WAIT_FOR(atomic_load(&l->next_free) == ahead + booked);
    for (int i = 0; i < WAITERS; i++) {
        assert_false(atomic_load(&w[i].done));
    }
}

static void join_waiters(struct waiter *w) {
    for (int i = 0; i < WAITERS; i++) {
        pthread_join(w[i].thread, NULL);
        assert_true(atomic_load(&w[i].done));
    }
}

static void lifting_ends_all_waits(void **state) {
    (void)state;
    struct limit l = { 0 };
    struct waiter w[WAITERS] = { 0 };
    start_waiters(&l, w, clock_now() + HOUR);
    limit_lift(&l);
    join_waiters(w);
    limit_wait(&l, SIZE_MAX / 2); /* nor does anybody wait later */
}

static void another_rate_ends_all_waits(void **state) {
    (void)state;
    struct limit l = { 0 };
    struct waiter w[WAITERS] = { 0 };
    start_waiters(&l, w, clock_now() + HOUR);
    limit_set(&l, 2000 * 1000);
    join_waiters(w);
    assert_int_equal(atomic_load(&l.next_free), 0); /* debts at the old rate are forgotten */
}

static void no_more_limit_ends_all_waits(void **state) {
    (void)state;
    struct limit l = { 0 };
    struct waiter w[WAITERS] = { 0 };
    start_waiters(&l, w, clock_now() + HOUR);
    limit_set(&l, 0);
    join_waiters(w);
}

static void the_first_one_does_not_wait(void **state) {
    (void)state;
    struct limit l = { 0 };
    limit_set(&l, 1); /* a byte a second: a wait would be seen as a test that hangs */
    int64_t before = clock_now();
    limit_wait(&l, 100000);
    assert_true(atomic_load(&l.next_free) >= before + 100000 * CLOCK_S);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_limit_books_nothing),       cmocka_unit_test(every_byte_is_booked),
        cmocka_unit_test(what_is_lifted_books_nothing), cmocka_unit_test(lifting_ends_all_waits),
        cmocka_unit_test(another_rate_ends_all_waits),  cmocka_unit_test(no_more_limit_ends_all_waits),
        cmocka_unit_test(the_first_one_does_not_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
