/* SPDX-License-Identifier: Apache-2.0 */
/* What the passes of a migration teach about the next one: on invented passes. */
#include "base/clock.h"
#include "policy/forecast.h"
#include "support.h"

#define MIB (1024 * 1024)
#define PAGES(bytes) ((uint64_t)(bytes) / 4096)

static void assert_near(double value, double expected, double part) {
    if (value < expected * (1 - part) || value > expected * (1 + part)) {
        fail_msg("%g is not within %g %% of %g", value, part * 100, expected);
    }
}

/* Nothing is known: nothing is promised of the sending, and the overhead is more than nothing. */
static void test_nothing_known(void **state) {
    (void)state;
    struct forecast f;
    forecast_init(&f);
    assert_int_equal(forecast_sending(&f, 1000, 1 << 20), 0);
    assert_true(forecast_overhead(&f) > 0);
}

/* A link of 100 MB/s, of which each byte of memory takes one: n bytes take n / 100 MB/s. */
static void test_by_the_link(void **state) {
    (void)state;
    struct forecast f;
    forecast_init(&f);
    forecast_note_pass(&f, &(struct forecast_pass){ PAGES(1000 * MIB), 1000 * MIB, 1000 * MIB, 10 * CLOCK_S, true });
    assert_near(f.wire_rate, 100.0 * MIB, 0.01);
    assert_near((double)forecast_sending(&f, PAGES(50 * MIB), 0), 0.5e9, 0.02);
    assert_near((double)forecast_sending(&f, PAGES(50 * MIB), 10 * MIB), 0.6e9, 0.02);
}

/* The sockets swallow 4 MiB in no time; it still takes the link 40 ms. */
static void test_what_sockets_swallow_is_not_there_yet(void **state) {
    (void)state;
    struct forecast f;
    forecast_init(&f);
    forecast_note_pass(&f, &(struct forecast_pass){ PAGES(1000 * MIB), 1000 * MIB, 996 * MIB, 10 * CLOCK_S, true });
    for (int i = 0; i < 10; i++) {
        forecast_note_pass(&f, &(struct forecast_pass){ PAGES(4 * MIB), 4 * MIB, 128 * 1024, 2 * CLOCK_MS, false });
    }
    assert_near((double)forecast_sending(&f, PAGES(4 * MIB), 0), 40e6, 0.05);
}

/* Hot pages compress, or change little: what the last passes took counts, not the first. */
static void test_the_last_passes_count(void **state) {
    (void)state;
    struct forecast f;
    forecast_init(&f);
    forecast_note_pass(&f, &(struct forecast_pass){ PAGES(1000 * MIB), 1000 * MIB, 1000 * MIB, 10 * CLOCK_S, true });
    for (int i = 0; i < 4; i++) {
        forecast_note_pass(&f, &(struct forecast_pass){ PAGES(100 * MIB), 10 * MIB, 10 * MIB, CLOCK_S / 10, true });
    }
    assert_near(f.ratio, 0.1, 0.05);
    assert_near((double)forecast_sending(&f, PAGES(100 * MIB), 0), 0.1e9, 0.05);
}

/* Where a CPU is slower than the link, pages take what they take. */
static void test_by_the_cpu(void **state) {
    (void)state;
    struct forecast f;
    forecast_init(&f);
    forecast_note_pass(&f, &(struct forecast_pass){ PAGES(400 * MIB), 400 * MIB, 400 * MIB, 2 * CLOCK_S, false });
    assert_near((double)forecast_sending(&f, PAGES(20 * MIB), 0), 0.1e9, 0.02);
}

/* A link that becomes slower shows within two passes, though it was never free. */
static void test_a_link_that_slows_down(void **state) {
    (void)state;
    struct forecast f;
    forecast_init(&f);
    forecast_note_pass(&f, &(struct forecast_pass){ PAGES(1000 * MIB), 1000 * MIB, 1000 * MIB, 10 * CLOCK_S, true });
    for (int i = 0; i < 3; i++) {
        forecast_note_pass(&f, &(struct forecast_pass){ PAGES(100 * MIB), 100 * MIB, 100 * MIB, 10 * CLOCK_S, true });
    }
    assert_near((double)forecast_sending(&f, PAGES(10 * MIB), 0), 1e9, 0.25);
}

/* Tiny passes are round trips: they say what a pass costs at least, and nothing of its pages. */
static void test_tiny_passes(void **state) {
    (void)state;
    struct forecast f;
    forecast_init(&f);
    forecast_note_pass(&f, &(struct forecast_pass){ PAGES(1000 * MIB), 1000 * MIB, 1000 * MIB, 10 * CLOCK_S, true });
    int64_t before = forecast_sending(&f, 1000, 0), overhead = forecast_overhead(&f);
    forecast_note_pass(&f, &(struct forecast_pass){ 3, 3 * 4096, 3 * 4096, 20 * CLOCK_MS, false });
    assert_int_equal(forecast_sending(&f, 1000, 0), before);
    assert_int_equal(forecast_overhead(&f), overhead + 20 * CLOCK_MS);
}

/* Half of the pages of a long pass had not changed. Behind a short one, and a wait, all have. */
static void test_what_did_not_change(void **state) {
    (void)state;
    struct forecast f;
    forecast_init(&f);
    forecast_note_scan(&f, CLOCK_S);
    forecast_note_pass(&f, &(struct forecast_pass){ PAGES(400 * MIB), 400 * MIB, 400 * MIB, 4 * CLOCK_S, true });
    forecast_note_scan(&f, 5 * CLOCK_S);
    forecast_note_pass(&f, &(struct forecast_pass){ PAGES(200 * MIB), 100 * MIB, 100 * MIB, CLOCK_S, true,
                                                    .unchanged = PAGES(100 * MIB) });
    forecast_note_scan(&f, 6 * CLOCK_S); /* as before: half of it is still to be sent */
    assert_near(forecast_ratio(&f), 0.5, 0.01);
    assert_near((double)forecast_sending(&f, PAGES(100 * MIB), 0), 0.6e9, 0.15);
    forecast_note_scan(&f, 15 * CLOCK_S); /* nothing was copied for nine seconds */
    assert_near(forecast_ratio(&f), 0.95, 0.01);
}

/* That the guest writes what is there already has nothing to do with time. */
static void test_what_never_changes(void **state) {
    (void)state;
    struct forecast f;
    forecast_init(&f);
    forecast_note_scan(&f, CLOCK_S);
    forecast_note_pass(&f, &(struct forecast_pass){ PAGES(400 * MIB), 400 * MIB, 400 * MIB, CLOCK_S, true });
    forecast_note_scan(&f, 11 * CLOCK_S); /* a tenth of the time was copying */
    forecast_note_pass(&f, &(struct forecast_pass){ PAGES(200 * MIB), 20 * MIB, 20 * MIB, CLOCK_S, true,
                                                    .unchanged = PAGES(180 * MIB) });
    forecast_note_scan(&f, 111 * CLOCK_S);
    assert_near(forecast_ratio(&f), 0.2, 0.1);
}

/* How long the VMM takes to answer says how long it will take to hand over; a disk that is slow to drain does not. */
static void test_a_slow_vmm(void **state) {
    (void)state;
    struct forecast quick, slow, disk;
    forecast_init(&quick);
    forecast_init(&slow);
    forecast_init(&disk);
    forecast_note_least(&quick.drain, CLOCK_MS / 5);
    forecast_note_least(&slow.drain, CLOCK_MS);
    forecast_note_least(&disk.drain, CLOCK_S);
    assert_true(forecast_overhead(&slow) > 2 * forecast_overhead(&quick));
    assert_true(forecast_overhead(&disk) < CLOCK_S + 50 * CLOCK_MS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_known),
        cmocka_unit_test(test_by_the_link),
        cmocka_unit_test(test_what_sockets_swallow_is_not_there_yet),
        cmocka_unit_test(test_the_last_passes_count),
        cmocka_unit_test(test_by_the_cpu),
        cmocka_unit_test(test_a_link_that_slows_down),
        cmocka_unit_test(test_tiny_passes),
        cmocka_unit_test(test_what_did_not_change),
        cmocka_unit_test(test_what_never_changes),
        cmocka_unit_test(test_a_slow_vmm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
