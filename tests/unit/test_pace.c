/* SPDX-License-Identifier: Apache-2.0 */
/* As with test_limit.c: what is checked is the books, not how long anything took. */
#include "host/pace.h"
#include "support.h"

#include <pthread.h>

static int64_t booked(struct cpu_pace *p) {
    return atomic_load(&p->limit.next_free);
}

static void without_a_budget_nothing_is_booked(void **state) {
    (void)state;
    struct cpu_pace p;
    cpu_pace_init(&p, 0);
    cpu_pace(&p, 3600 * CLOCK_S);
    assert_int_equal(booked(&p), 0);
    cpu_pace_destroy(&p);
}

static void cpu_time_is_booked_by_the_percent(void **state) {
    (void)state;
    const struct {
        unsigned percent;
        int64_t used, cost;
    } cases[] = {
        { 50, CLOCK_S, 2 * CLOCK_S },
        { 100, CLOCK_S, CLOCK_S },
        { 400, CLOCK_S, CLOCK_S / 4 },
        { 1, CLOCK_S, 100 * CLOCK_S },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct cpu_pace p;
        cpu_pace_init(&p, cases[i].percent);
        int64_t before = clock_now();
        cpu_pace(&p, cases[i].used); /* the first booking begins now, so nobody waits */
        assert_true(booked(&p) >= before + cases[i].cost && booked(&p) <= clock_now() + cases[i].cost);
        cpu_pace_destroy(&p);
    }
}

static void no_time_or_nonsense_is_not_booked(void **state) {
    (void)state;
    struct cpu_pace p;
    cpu_pace_init(&p, 50);
    cpu_pace(&p, 0);
    cpu_pace(&p, -5);
    assert_int_equal(booked(&p), 0);
    cpu_pace(&p, INT64_MAX); /* more than any clock holds */
    assert_true(booked(&p) > clock_now());
    cpu_pace_end(&p);
    cpu_pace(&p, INT64_MAX);
    cpu_pace_destroy(&p);
}

/* Workers behind a debt of an hour. */
#define WORKERS 3

struct worker {
    struct cpu_pace *pace;
    pthread_t thread;
    _Atomic bool done;
};

static void *work(void *opaque) {
    struct worker *w = opaque;
    cpu_pace(w->pace, CLOCK_MS);
    atomic_store(&w->done, true);
    return NULL;
}

static void start_workers(struct cpu_pace *p, struct worker *w) {
    cpu_pace_init(p, 100);
    int64_t debt = clock_now() + 3600 * CLOCK_S;
    atomic_store(&p->limit.next_free, debt);
    for (int i = 0; i < WORKERS; i++) {
        w[i].pace = p;
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    WAIT_FOR(booked(p) == debt + WORKERS * CLOCK_MS);
    for (int i = 0; i < WORKERS; i++) {
        assert_false(atomic_load(&w[i].done));
    }
}

static void join_workers(struct cpu_pace *p, struct worker *w) {
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(w[i].thread, NULL);
        assert_true(atomic_load(&w[i].done));
    }
    cpu_pace_destroy(p);
}

static void the_end_wakes_all(void **state) {
    (void)state;
    struct cpu_pace p;
    struct worker w[WORKERS] = { 0 };
    start_workers(&p, w);
    cpu_pace_end(&p);
    join_workers(&p, w);
}

static void another_budget_wakes_all(void **state) {
    (void)state;
    struct cpu_pace p;
    struct worker w[WORKERS] = { 0 };
    start_workers(&p, w);
    int64_t before = booked(&p);
    cpu_pace_set(&p, 100); /* the same again forgives nothing */
    assert_true(booked(&p) == before);
    cpu_pace_set(&p, 200);
    join_workers(&p, w);
}

static void lifted_for_the_final_pass(void **state) {
    (void)state;
    struct cpu_pace p;
    struct worker w[WORKERS] = { 0 };
    start_workers(&p, w);
    cpu_pace_lift(&p, true);
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(w[i].thread, NULL);
    }
    cpu_pace(&p, 3600 * CLOCK_S);
    assert_int_equal(booked(&p), 0);
    cpu_pace_set(&p, 50); /* while lifted: is remembered */
    cpu_pace(&p, CLOCK_S);
    assert_int_equal(booked(&p), 0);
    cpu_pace_lift(&p, false);
    int64_t before = clock_now();
    cpu_pace(&p, CLOCK_S);
    assert_true(booked(&p) >= before + 2 * CLOCK_S);
    cpu_pace_destroy(&p);
}

static void a_mark_counts_this_thread_only(void **state) {
    (void)state;
    int64_t mark = clock_thread_cpu();
    uint64_t sum = 1;
    for (int i = 0; i < 1000000; i++) {
        random_next(&sum);
    }
    assert_true(sum != 0);
    assert_true(clock_thread_cpu() > mark);
    assert_true(clock_thread_cpu() <= clock_cpu());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_budget_nothing_is_booked), cmocka_unit_test(cpu_time_is_booked_by_the_percent),
        cmocka_unit_test(no_time_or_nonsense_is_not_booked),  cmocka_unit_test(the_end_wakes_all),
        cmocka_unit_test(another_budget_wakes_all),           cmocka_unit_test(lifted_for_the_final_pass),
        cmocka_unit_test(a_mark_counts_this_thread_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
