/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/first_touch.h"

#include "base/clock.h"
#include "support.h"

#include <pthread.h>

#define HALF (FIRST_TOUCH_SIZE / 2)
#define THREADS 4u
#define STRETCHES 40u

/* Begins in the middle of a huge page and ends in the middle of one. */
static const uint64_t address = 7 * FIRST_TOUCH_SIZE + HALF, size = STRETCHES * FIRST_TOUCH_SIZE;

static struct first_touch first_touch;
static _Atomic unsigned touches[STRETCHES + 1], inside[STRETCHES + 1], bad;

static int setup(void **state) {
    (void)state;
    struct error err = { 0 };
    assert_ok(first_touch_init(&first_touch, address, size, &err) == 0, &err);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    first_touch_destroy(&first_touch);
    return 0;
}

static void test_stretches_are_huge_pages(void **state) {
    (void)state;
    assert_int_equal(first_touch_next(&first_touch, 0), HALF);
    assert_int_equal(first_touch_next(&first_touch, HALF - 1), HALF);
    assert_int_equal(first_touch_next(&first_touch, HALF), HALF + FIRST_TOUCH_SIZE);
    assert_int_equal(first_touch_next(&first_touch, size - 1), size + HALF);
}

static void test_each_is_touched_once(void **state) {
    (void)state;
    for (uint64_t at = 0; at < size; at = first_touch_next(&first_touch, at)) {
        assert_true(first_touch_begin(&first_touch, at));
        first_touch_end(&first_touch, at);
    }
    for (uint64_t at = 0; at < size; at += 4096) {
        assert_false(first_touch_begin(&first_touch, at));
    }
}

/* Who is let go on finds the stretch touched, and nobody is inside besides. */
static void *work(void *opaque) {
    (void)opaque;
    for (uint64_t at = 0, n = 0; at < size; at = first_touch_next(&first_touch, at), n++) {
        if (first_touch_begin(&first_touch, at)) {
            bad += atomic_fetch_add(&inside[n], 1) != 0;
            clock_sleep(CLOCK_MS / 4);
            atomic_fetch_add(&touches[n], 1);
            atomic_fetch_sub(&inside[n], 1);
            first_touch_end(&first_touch, at);
        }
        bad += atomic_load(&touches[n]) != 1;
    }
    return NULL;
}

static void test_others_wait_for_the_first(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work, NULL), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(bad, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_stretches_are_huge_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_each_is_touched_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_others_wait_for_the_first, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
