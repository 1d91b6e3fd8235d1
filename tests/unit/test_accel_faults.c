/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that hang, reset, lie or vanish: what they may cost is the time of a batch. */
#include "accel_support.h"

#include <stdio.h>
#include <sys/mman.h>

#define SHORT (2 * CLOCK_S) /* a time-out that is meant to pass */
#define LONG (30 * CLOCK_S) /* one that is not, on a slow machine either */

static void a_hang_costs_one_timeout(void **state) {
    struct card card;
    struct witness w = { 0 };
    struct batch b[4];
    card_start(&card, *state, "card", "--fault hang@2:1");
    struct accel *a = accel_for(card.device, 1, SHORT, &w);
    for (size_t i = 0; i < COUNT(b); i++) {
        batch_make(&b[i], a, 65536, i + 1);
    }
    assert_int_equal(batch_run(&b[0]), ACCEL_OK);
    assert_int_equal(batch_run(&b[1]), ACCEL_OK);
    assert_int_equal(batch_run(&b[2]), ACCEL_TIMEOUT);
    assert_null(b[2].job.out);
    WAIT_FOR(atomic_load(&w.seen[ACCEL_READY]) == 1);
    assert_int_equal(atomic_load(&w.seen[ACCEL_WAITING]), 1);
    assert_int_equal(batch_run(&b[2]), ACCEL_OK);
    batch_assert_right(&b[0]); /* the first incarnation's results are still there … */
    batch_assert_right(&b[2]);
    batch_assert_right(&b[1]);
    struct accel_counters c = counters_of(a, 0);
    assert_int_equal(c.timeouts, 1);
    assert_int_equal(c.resets, 1);
    assert_int_equal(c.batches, 3);
    assert_true(c.quarantined > 0);
    accel_close(a);
    card_stop(&card);
}

static void memory_of_a_former_incarnation_is_never_given_out(void **state) {
    struct card card;
    struct batch b;
    const uint8_t *old[8], *lowest = NULL, *highest = NULL;
    card_start(&card, *state, "card", "--depth 4");
    struct witness w = { 0 };
    struct accel *a = accel_for(card.device, 1, LONG, &w);
    batch_make(&b, a, 65536, 1);
    for (size_t i = 0; i < COUNT(old); i++) {
        assert_int_equal(batch_run(&b), ACCEL_OK);
        lowest = lowest == NULL || b.job.out < lowest ? b.job.out : lowest;
        highest = highest == NULL || b.job.out > highest ? b.job.out : highest;
        accel_release(a, &b.job);
    }
    assert_int_equal(counters_of(a, 0).quarantined, 0);
    card_fault(&card, EMULATED_RESET, 0, 1);
    assert_int_equal(batch_run(&b), ACCEL_RESET);
    WAIT_FOR(atomic_load(&w.seen[ACCEL_READY]) == 1);
    uint64_t size = counters_of(a, 0).quarantined;
    assert_true(size >= 8 * MAX_JOB);
    for (size_t i = 0; i < COUNT(old); i++) {
        assert_int_equal(batch_run(&b), ACCEL_OK);
        assert_true(b.job.out + b.job.out_size <= lowest || b.job.out >= highest + MAX_JOB);
        batch_assert_right(&b);
    }
    assert_int_equal(counters_of(a, 0).resets, 1);
    accel_close(a);
    card_stop(&card);
}

/* A whole queue is lost with the device, each job once. */
static void a_reset_ends_all_jobs_of_the_device(void **state) {
    struct card card;
    struct batch b[6];
    struct witness w = { 0 };
    /* slow: all six are there when the first one is answered */
    card_start(&card, *state, "card", "--depth 8 --rate 2000000 --fault reset@0");
    struct accel *a = accel_for(card.device, 1, LONG, &w);
    for (size_t i = 0; i < COUNT(b); i++) {
        batch_make(&b[i], a, MAX_JOB, i + 1);
    }
    unsigned taken = 0;
    for (size_t i = 0; i < COUNT(b); i++) {
        int rc = accel_submit(a, &b[i].job);
        if (rc != 1) {
            break; /* the card was faster */
        }
        taken++;
    }
    assert_true(taken > 0);
    for (size_t i = 0; i < taken; i++) {
        batch_wait(&b[i]);
        assert_int_equal(b[i].job.status, ACCEL_RESET);
        assert_int_equal(atomic_load(&b[i].done), 1);
    }
    WAIT_FOR(atomic_load(&w.seen[ACCEL_READY]) == 1);
    assert_int_equal(batch_run(&b[0]), ACCEL_OK);
    batch_assert_right(&b[0]);
    accel_close(a);
    card_stop(&card);
}

static void a_size_that_cannot_be_resets_the_device(void **state) {
    struct card card;
    struct batch b;
    struct witness w = { 0 };
    card_start(&card, *state, "card", "--fault oversize@0");
    struct accel *a = accel_for(card.device, 1, LONG, &w);
    batch_make(&b, a, 65536, 1);
    assert_int_equal(batch_run(&b), ACCEL_RESET);
    WAIT_FOR(atomic_load(&w.seen[ACCEL_READY]) == 1);
    assert_int_equal(batch_run(&b), ACCEL_OK);
    batch_assert_right(&b);
    accel_close(a);
    card_stop(&card);
}

static void jobs_may_fail_one_by_one(void **state) {
    struct card card;
    struct batch b;
    struct witness w = { 0 };
    card_start(&card, *state, "card", "--fault error@1:2 --fault error@4:4");
    struct accel *a = accel_for(card.device, 1, LONG, &w);
    batch_make(&b, a, 65536, 1);
    const enum accel_status want[] = { ACCEL_OK,     ACCEL_FAILED, ACCEL_FAILED, ACCEL_OK,
                                       ACCEL_FAILED, ACCEL_FAILED, ACCEL_FAILED };
    for (size_t i = 0; i < COUNT(want); i++) {
        assert_int_equal(batch_run(&b), want[i]);
        accel_release(a, &b.job);
    }
    assert_int_equal(counters_of(a, 0).resets, 0);
    assert_int_equal(batch_run(&b), ACCEL_FAILED); /* the fourth in a row: perhaps a reset helps */
    WAIT_FOR(atomic_load(&w.seen[ACCEL_READY]) == 1);
    assert_int_equal(batch_run(&b), ACCEL_OK);
    batch_assert_right(&b);
    struct accel_counters c = counters_of(a, 0);
    assert_int_equal(c.failed, 6);
    assert_int_equal(c.resets, 1);
    accel_close(a);
    card_stop(&card);
}

static void who_writes_garbage_is_given_up(void **state) {
    struct card card;
    struct batch b;
    struct witness w = { 0 };
    card_start(&card, *state, "card", "--fault garbage@1:9");
    struct accel *a = accel_for(card.device, 1, LONG, &w);
    batch_make(&b, a, 65536, 1);
    assert_int_equal(batch_run(&b), ACCEL_OK);
    batch_assert_right(&b);
    for (int i = 0; i < ACCEL_MAX_BLAMES; i++) {
        assert_int_equal(batch_run(&b), ACCEL_OK);
        assert_false(batch_is_right(&b));
        accel_release(a, &b.job);
        accel_blame(a, b.job.device);
    }
    assert_int_equal(accel_submit(a, &b.job), -1);
    WAIT_FOR(atomic_load(&w.seen[ACCEL_LOST]) == 1);
    assert_int_equal(counters_of(a, 0).blamed, ACCEL_MAX_BLAMES);
    assert_int_equal(counters_of(a, 0).health, ACCEL_LOST);
    assert_false(accel_wait_room(a, LONG));
    accel_blame(a, 77); /* nobody */
    accel_close(a);
    card_stop(&card);
}

static void the_card_cannot_write_to_the_input(void **state) {
    /* The card tries to map it writable when it is attached, and refuses a client that lets it. */
    struct card card;
    struct batch b;
    card_start(&card, *state, "card", NULL);
    struct accel *a = accel_for(card.device, 1, LONG, NULL);
    batch_make(&b, a, 4096, 1);
    memset(b.data, 5, 4096);
    assert_int_equal(batch_run(&b), ACCEL_OK);
    assert_int_equal(counters_of(a, 0).resets, 0);
    batch_assert_right(&b);
    accel_close(a);
    card_stop(&card);
}

static void several_devices_share_and_survive_each_other(void **state) {
    struct card card[2];
    struct witness w = { 0 };
    struct batch b[8];
    char devices[300];
    card_start(&card[0], *state, "one", "--rate 4000000");
    card_start(&card[1], *state, "two", "--rate 4000000");
    snprintf(devices, sizeof(devices), "%s,%s", card[0].device, card[1].device);
    struct accel *a = accel_for(devices, 2, LONG, &w);
    for (size_t i = 0; i < COUNT(b); i++) {
        batch_make(&b[i], a, MAX_JOB, i + 1);
        assert_int_equal(accel_submit(a, &b[i].job), 1);
    }
    /* all are slow, so each has got its half, and what is left is no more than one job apart */
    for (size_t i = 0; i < COUNT(b); i++) {
        batch_wait(&b[i]);
        batch_assert_right(&b[i]);
    }
    assert_true(counters_of(a, 0).batches >= 3);
    assert_true(counters_of(a, 1).batches >= 3);
    assert_int_equal(counters_of(a, 0).batches + counters_of(a, 1).batches, 8);
    card_stop(&card[0]);
    WAIT_FOR(atomic_load(&w.seen[ACCEL_LOST]) == 1);
    assert_int_equal(atomic_load(&w.last), 0);
    uint64_t before = counters_of(a, 1).batches;
    for (size_t i = 0; i < COUNT(b); i++) {
        assert_int_equal(batch_run(&b[i]), ACCEL_OK);
        assert_int_equal(b[i].job.device, 1);
        batch_assert_right(&b[i]);
    }
    assert_int_equal(counters_of(a, 1).batches, before + 8);
    assert_int_equal(counters_of(a, 0).health, ACCEL_LOST);
    accel_close(a);
    card_stop(&card[1]);
}

static void a_card_that_comes_back_is_used_again(void **state) {
    struct card card;
    struct witness w = { 0 };
    struct batch b;
    struct error err = { 0 };
    card_start(&card, *state, "card", NULL);
    struct accel_config config = {
        .devices = card.device, .retry_ns = CLOCK_S, .max_job = MAX_JOB, .changed = witness_changed, .opaque = &w
    };
    struct accel *a = accel_open(&config, &err);
    assert_ok(a != NULL, &err);
    batch_make(&b, a, 65536, 1);
    card_stop(&card);
    WAIT_FOR(atomic_load(&w.seen[ACCEL_WAITING]) == 1);
    assert_int_equal(accel_submit(a, &b.job), -1);
    assert_false(accel_wait_room(a, LONG)); /* at once: there is nothing to wait for */
    card_start(&card, *state, "card", NULL);
    WAIT_FOR(atomic_load(&w.seen[ACCEL_READY]) == 1);
    assert_int_equal(batch_run(&b), ACCEL_OK);
    batch_assert_right(&b);
    accel_close(a);
    card_stop(&card);
}

/* Ratios of bytes done over the same stretch of time. A card so slow that three jobs keep it busy for 48 ms: who is not
 * given a CPU for a moment still has work queued, so that neither load nor sanitizers change what is measured. */
#define RATE "--rate 2000000 --depth 4 --instances 8"

static void the_card_is_shared_by_migration_not_by_queue(void **state) {
    static struct pump wide, narrow;
    struct card card;
    card_start(&card, *state, "card", RATE);
    struct accel *a = accel_for(card.device, 8, LONG, NULL), *b = accel_for(card.device, 1, LONG, NULL);
    pump_start(&wide, a, 32, 32768);
    pump_start(&narrow, b, 3, 32768);
    WAIT_FOR(atomic_load(&narrow.bytes) > 0 && atomic_load(&wide.bytes) > 0);
    uint64_t wide_before = atomic_load(&wide.bytes), narrow_before = atomic_load(&narrow.bytes);
    WAIT_FOR(atomic_load(&wide.bytes) + atomic_load(&narrow.bytes) - wide_before - narrow_before > 160 * 32768);
    double w = (double)(atomic_load(&wide.bytes) - wide_before);
    double n = (double)(atomic_load(&narrow.bytes) - narrow_before);
    pump_stop(&wide);
    pump_stop(&narrow);
    print_message("shares: %.3f with 32 jobs, %.3f with 3\n", w / (w + n), n / (w + n));
    assert_true(n / (w + n) >= 0.45 && w / (w + n) >= 0.45);
    accel_close(a);
    accel_close(b);
    card_stop(&card);
}

static void two_devices_do_twice_as_much(void **state) {
    static struct pump two, one;
    struct card card[3];
    char devices[300];
    card_start(&card[0], *state, "one", RATE);
    card_start(&card[1], *state, "two", RATE);
    card_start(&card[2], *state, "three", RATE);
    snprintf(devices, sizeof(devices), "%s,%s", card[0].device, card[1].device);
    struct accel *a = accel_for(devices, 1, LONG, NULL), *b = accel_for(card[2].device, 1, LONG, NULL);
    pump_start(&two, a, 8, 65536);
    pump_start(&one, b, 4, 65536);
    WAIT_FOR(atomic_load(&two.bytes) > 0 && atomic_load(&one.bytes) > 0);
    uint64_t two_before = atomic_load(&two.bytes), one_before = atomic_load(&one.bytes);
    WAIT_FOR(atomic_load(&one.bytes) - one_before > 50 * 65536);
    double t = (double)(atomic_load(&two.bytes) - two_before), o = (double)(atomic_load(&one.bytes) - one_before);
    pump_stop(&two);
    pump_stop(&one);
    print_message("two devices to one: %.2f\n", t / o);
    assert_true(t / o > 1.7 && t / o < 2.3);
    accel_close(a);
    accel_close(b);
    for (size_t i = 0; i < COUNT(card); i++) {
        card_stop(&card[i]);
    }
}

static void the_card_says_what_it_did(void **state) {
    struct card card;
    struct batch b;
    char path[160], options[200], text[512] = "";
    snprintf(path, sizeof(path), "%s/stats", (const char *)*state);
    snprintf(options, sizeof(options), "--stats %s", path);
    card_start(&card, *state, "card", options);
    struct accel *a = accel_for(card.device, 1, LONG, NULL);
    batch_make(&b, a, 65536, 1);
    assert_int_equal(batch_run(&b), ACCEL_OK);
    batch_assert_right(&b);
    accel_close(a);
    card_stop(&card);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
    fclose(file);
    assert_non_null(strstr(text, "\"jobs\": 1"));
    assert_non_null(strstr(text, "\"in\": 65536"));
    assert_non_null(strstr(text, "\"violations\": 0"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hang_costs_one_timeout),
        cmocka_unit_test(memory_of_a_former_incarnation_is_never_given_out),
        cmocka_unit_test(a_reset_ends_all_jobs_of_the_device),
        cmocka_unit_test(a_size_that_cannot_be_resets_the_device),
        cmocka_unit_test(jobs_may_fail_one_by_one),
        cmocka_unit_test(who_writes_garbage_is_given_up),
        cmocka_unit_test(the_card_cannot_write_to_the_input),
        cmocka_unit_test(several_devices_share_and_survive_each_other),
        cmocka_unit_test(a_card_that_comes_back_is_used_again),
        cmocka_unit_test(the_card_is_shared_by_migration_not_by_queue),
        cmocka_unit_test(two_devices_do_twice_as_much),
        cmocka_unit_test(the_card_says_what_it_did),
    };
    return cmocka_run_group_tests_name("accel_faults", tests, scratch_setup, scratch_teardown);
}
