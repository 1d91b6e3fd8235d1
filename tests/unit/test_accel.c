/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What accelerator queues promise, whatever the device. Without an argument on emulated cards; "qat" runs the same on
 * QATzip, which works in software where there is no device.
 */
#include "accel_support.h"

#include <pthread.h>
#include <stdio.h>

static const char *wanted; /* the device, or NULL: a card of our own */
static struct card card;

/* Every test has a device of its own. */
static struct accel *open_one(void **state, unsigned instances, const char *options) {
    if (wanted != NULL) {
        return accel_for(wanted, instances, 30 * CLOCK_S, NULL);
    }
    card_start(&card, *state, "card", options);
    return accel_for(card.device, instances, 30 * CLOCK_S, NULL);
}

static void close_one(struct accel *a) {
    accel_close(a);
    if (wanted == NULL) {
        card_stop(&card);
    }
}

static void batches_come_back_compressed(void **state) {
    struct accel *a = open_one(state, 2, NULL);
    const size_t sizes[] = { 4096, 12288, 65536, 69632, MAX_JOB };
    struct batch b[COUNT(sizes)];
    uint64_t in = 0, out = 0;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        batch_make(&b[i], a, sizes[i], i + 1);
        assert_int_equal((uintptr_t)b[i].data % 4096, 0);
        assert_int_equal(batch_submit(&b[i]), 1);
    }
    for (size_t i = 0; i < COUNT(sizes); i++) {
        batch_wait(&b[i]);
        in += b[i].job.size;
        out += b[i].job.out_size;
        batch_assert_right(&b[i]);
        assert_int_equal(atomic_load(&b[i].done), 1);
    }
    struct accel_counters c = counters_of(a, 0);
    assert_string_equal(c.name, wanted != NULL ? wanted : card.device);
    assert_int_equal(c.health, ACCEL_READY);
    assert_int_equal(c.instances, 2);
    assert_int_equal(c.batches, COUNT(sizes));
    assert_int_equal(c.in, in);
    assert_int_equal(c.out, out);
    assert_int_equal(c.in_flight + c.timeouts + c.resets + c.failed + c.too_big, 0);
    if (wanted == NULL) {
        assert_false(c.software);
    }
    close_one(a);
}

static void the_level_may_change_between_jobs(void **state) {
    struct accel *a = open_one(state, 1, NULL);
    const int levels[] = { 1, 9, 9, 1, -5, 1000 };
    struct batch b[COUNT(levels)];
    for (size_t i = 0; i < COUNT(levels); i++) {
        batch_make(&b[i], a, 65536, i + 1);
        b[i].job.level = levels[i];
        assert_int_equal(batch_submit(&b[i]), 1);
    }
    for (size_t i = 0; i < COUNT(levels); i++) {
        batch_wait(&b[i]);
        batch_assert_right(&b[i]);
    }
    close_one(a);
}

static void what_does_not_shrink_is_no_failure(void **state) {
    struct accel *a = open_one(state, 1, NULL);
    struct batch b, small;
    uint64_t seed = 7;
    batch_make(&b, a, MAX_JOB, 1);
    random_fill(&seed, b.data, b.job.size);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(batch_run(&b), ACCEL_TOO_BIG);
        assert_null(b.job.out);
        accel_release(a, &b.job); /* harmless */
    }
    batch_make(&small, a, MAX_JOB, 1);
    small.job.capacity = 1; /* what shrinks, but not as far as that */
    assert_int_equal(batch_run(&small), ACCEL_TOO_BIG);
    struct accel_counters c = counters_of(a, 0);
    assert_int_equal(c.too_big, 21);
    assert_int_equal(c.health, ACCEL_READY);
    assert_int_equal(c.resets + c.failed + c.batches, 0);
    close_one(a);
}

static void what_no_device_could_read_is_refused(void **state) {
    struct accel *a = open_one(state, 1, NULL);
    struct batch b;
    batch_make(&b, a, 8192, 1);
    uint8_t *elsewhere = malloc(8192);
    assert_non_null(elsewhere);
    b.job.in = elsewhere;
    assert_int_equal(accel_submit(a, &b.job), -1);
    b.job.in = b.data + 4096; /* its end lies behind what was given out */
    assert_int_equal(accel_submit(a, &b.job), -1);
    b.job.in = b.data;
    b.job.size = 0;
    assert_int_equal(accel_submit(a, &b.job), -1);
    b.job.size = MAX_JOB + 1;
    assert_int_equal(accel_submit(a, &b.job), -1);
    assert_null(accel_alloc(a, (size_t)128 << 20)); /* some is gone already */
    assert_null(accel_alloc(a, SIZE_MAX));
    assert_int_equal(atomic_load(&b.done), 0);
    b.job.size = 8192;
    b.job.capacity = 8192;
    assert_int_equal(batch_run(&b), ACCEL_OK);
    batch_assert_right(&b);
    free(elsewhere);
    close_one(a);
}

static void full_queues_say_so_until_something_is_released(void **state) {
    struct accel *a = open_one(state, 1, "--depth 2");
    struct batch b[64];
    size_t taken = 0;
    /* Nothing is released: results that wait to be sent fill the slots in the end, however fast the device is. */
    for (;;) {
        assert_true(taken < COUNT(b));
        batch_make(&b[taken], a, 65536, taken + 1);
        if (accel_submit(a, &b[taken].job) == 1) {
            taken++;
        } else if (counters_of(a, 0).in_flight == 0) {
            break;
        }
    }
    assert_int_equal(accel_submit(a, &b[taken].job), 0);
    assert_false(accel_wait_room(a, 0));
    batch_wait(&b[0]);
    batch_assert_right(&b[0]);
    assert_true(accel_wait_room(a, CLOCK_S));
    assert_int_equal(batch_run(&b[taken]), ACCEL_OK);
    for (size_t i = 1; i <= taken; i++) {
        batch_assert_right(&b[i]);
    }
    close_one(a);
}

static void closing_ends_what_is_in_flight(void **state) {
    struct accel *a = open_one(state, 2, "--rate 1000000 --depth 8");
    static struct batch b[64];
    size_t taken = 0;
    while (taken < COUNT(b)) {
        batch_make(&b[taken], a, 65536, taken + 1);
        if (accel_submit(a, &b[taken].job) != 1) {
            break;
        }
        taken++;
    }
    assert_true(taken >= 8);
    accel_close(a);
    for (size_t i = 0; i < taken; i++) {
        assert_int_equal(atomic_load(&b[i].done), 1);
        assert_true(b[i].job.status == ACCEL_OK || b[i].job.status == ACCEL_CLOSED);
    }
    if (wanted == NULL) {
        card_stop(&card);
    }
}

struct worker {
    pthread_t thread;
    struct batch batch[2];
    unsigned jobs, wrong;
};

static void *work(void *opaque) {
    struct worker *w = opaque;
    for (unsigned i = 0; i < 40; i++) {
        struct batch *b = &w->batch[i % 2];
        w->wrong += batch_submit(b) != 1;
        while (atomic_load(&b->done) == 0) {
            clock_sleep(CLOCK_MS / 10);
        }
        w->wrong += b->job.status != ACCEL_OK || b->job.out_size == 0;
        accel_release(b->accel, &b->job);
        w->jobs++;
    }
    return NULL;
}

static void many_threads_share_the_queues(void **state) {
    struct accel *a = open_one(state, 2, "--depth 1");
    struct worker w[4] = { 0 };
    for (size_t i = 0; i < COUNT(w); i++) {
        batch_make(&w[i].batch[0], a, 65536, i + 1);
        batch_make(&w[i].batch[1], a, 4096, i + 1);
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (size_t i = 0; i < COUNT(w); i++) {
        pthread_join(w[i].thread, NULL);
        assert_int_equal(w[i].jobs, 40);
        assert_int_equal(w[i].wrong, 0);
    }
    assert_int_equal(counters_of(a, 0).batches, 160);
    close_one(a);
}

int main(int argc, char **argv) {
    wanted = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_come_back_compressed),
        cmocka_unit_test(the_level_may_change_between_jobs),
        cmocka_unit_test(what_does_not_shrink_is_no_failure),
        cmocka_unit_test(what_no_device_could_read_is_refused),
        cmocka_unit_test(full_queues_say_so_until_something_is_released),
        cmocka_unit_test(closing_ends_what_is_in_flight),
        cmocka_unit_test(many_threads_share_the_queues),
    };
    return cmocka_run_group_tests_name(wanted != NULL ? "accel_qatzip" : "accel", tests, scratch_setup,
                                       scratch_teardown);
}
