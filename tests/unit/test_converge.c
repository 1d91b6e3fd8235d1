/* SPDX-License-Identifier: Apache-2.0 */
/* What all policies have in common, and each of them step by step, on invented samples. */
#include "policy/converge.h"
#include "support.h"

#include <math.h>

#define MIB (UINT64_C(1) << 20)
#define LINK (100.0 * (double)MIB) /* bytes/s */

/* One migration that the test drives. */
struct drive {
    struct converge_config config;
    struct converge_input in;
    struct converge_state state;
    struct converge_decision d;
};

static struct drive drive_begin(enum converge_policy policy) {
    return (struct drive){
        .config = { .policy = policy,
                    .trigger_threshold = 50,
                    .initial = 20,
                    .increment = 10,
                    .max = 99,
                    .downtime_limit = 300 * CLOCK_MS },
        .in = { .now = 1000 * CLOCK_S,
                .started = 1000 * CLOCK_S,
                .ram = 2048 * MIB,
                .remaining = 2048 * MIB,
                .wire_rate = LINK,
                .ratio = 1,
                .dirty_rate = -1,
                .pass = 1,
                .can_throttle = true,
                .overhead = 20 * CLOCK_MS },
    };
}

static void take_step(struct drive *r) {
    converge_step(&r->config, &r->in, &r->state, &r->d);
    r->in.throttle = r->d.throttle;
    assert_non_null(r->d.reason);
    assert_true(r->d.action == CONVERGE_GO_ON || r->d.throttle == 0);
    assert_true(r->d.throttle <= r->config.max);
}

/* A pass of `sent` MiB that leaves `dirtied` MiB, in the time that the link takes. */
static void pass(struct drive *r, uint64_t sent, uint64_t dirtied) {
    r->in.pass_ended = true;
    r->in.pass_sent = sent * MIB;
    r->in.pass_dirtied = r->in.remaining = dirtied * MIB;
    r->in.pass_time = (int64_t)((double)(sent * MIB) / LINK * 1e9);
    r->in.now += r->in.pass_time;
    r->in.dirty_rate = -1;
    take_step(r);
    r->in.pass++;
}

/* Within a pass: `rate` MiB/s written in the last `ms`; negative: nothing was measured. */
static void sample(struct drive *r, int64_t ms, double rate) {
    r->in.pass_ended = false;
    r->in.now += ms * CLOCK_MS;
    r->in.dirty_interval = ms * CLOCK_MS;
    r->in.dirty_rate = rate * (double)MIB;
    take_step(r);
}

static void forecast_of_the_downtime(void **state) {
    (void)state;
    struct converge_input in = { .remaining = 100 * MIB, .wire_rate = LINK, .ratio = 1, .overhead = 7 };
    assert_int_equal(converge_downtime(&in), CLOCK_S + 7);
    in.ratio = 0.5;
    assert_int_equal(converge_downtime(&in), CLOCK_S / 2 + 7);
    in.wire_rate = 0;
    assert_true(converge_downtime(&in) == INT64_MAX);
    in.wire_rate = NAN;
    assert_true(converge_downtime(&in) == INT64_MAX);
    in.wire_rate = 1e-9;
    assert_true(converge_downtime(&in) == INT64_MAX);
    in.remaining = 0;
    assert_int_equal(converge_downtime(&in), 7);
}

static void stops_when_it_fits(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_NONE);
    pass(&r, 2048, 29);
    assert_int_equal(r.d.action, CONVERGE_GO_ON); /* the first pass shrinks fast */
    pass(&r, 29, 28);
    assert_int_equal(r.d.action, CONVERGE_STOP); /* 280 ms and 20 */
    r = drive_begin(CONVERGE_NONE);
    pass(&r, 2048, 40);
    pass(&r, 40, 29);
    assert_int_equal(r.d.action, CONVERGE_GO_ON); /* 310 ms */
    sample(&r, 50, 1);
    r.in.remaining = MIB;
    sample(&r, 50, 1);
    assert_int_equal(r.d.action, CONVERGE_GO_ON); /* not within a pass */
    assert_true(r.d.downtime < 300 * CLOCK_MS);
}

static void a_few_more_passes_while_they_shrink_fast(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_NONE);
    r.in.overhead = 0;
    const uint64_t shrinking[] = { 24, 11, 5, 2 };
    uint64_t before = 2048;
    for (size_t i = 0; i < COUNT(shrinking); i++) {
        pass(&r, before, shrinking[i]);
        assert_int_equal(r.d.action, CONVERGE_GO_ON);
        before = shrinking[i];
    }
    r.in.remaining = MIB * 9 / 10;
    r.in.pass_ended = true;
    take_step(&r);
    assert_int_equal(r.d.action, CONVERGE_STOP); /* that was enough of them */

    r = drive_begin(CONVERGE_NONE);
    r.in.overhead = 0;
    pass(&r, 2048, 0);
    assert_int_equal(r.d.action, CONVERGE_STOP); /* nothing to gain */

    /* The same end of a pass looked at again: it does not shrink. */
    r = drive_begin(CONVERGE_NONE);
    pass(&r, 2048, 10);
    take_step(&r);
    assert_int_equal(r.d.action, CONVERGE_STOP);
}

static void no_extra_passes_while_the_guest_is_held_back(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_STEPPED);
    pass(&r, 512, 512);
    pass(&r, 512, 512);
    assert_int_equal(r.d.throttle, 20);
    pass(&r, 512, 10);
    assert_int_equal(r.d.action, CONVERGE_STOP);
}

static void the_operator_forces(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_RATE);
    sample(&r, 50, 10);
    r.config.force = true;
    sample(&r, 50, 10);
    assert_int_equal(r.d.action, CONVERGE_FORCE);
    pass(&r, 2048, 0);
    assert_int_equal(r.d.action, CONVERGE_STOP); /* no need for force */
}

static void completion_timeout(void **state) {
    (void)state;
    const enum converge_action actions[] = { CONVERGE_GIVE_UP, CONVERGE_FORCE, CONVERGE_POSTCOPY };
    for (int i = 0; i < 3; i++) {
        struct drive r = drive_begin(CONVERGE_STEPPED);
        r.config.completion_timeout = 10 * CLOCK_S;
        r.config.timeout_action = (enum converge_timeout)i;
        sample(&r, 9999, 10);
        assert_int_equal(r.d.action, CONVERGE_GO_ON);
        sample(&r, 1, 10);
        assert_int_equal(r.d.action, actions[i]);
        assert_non_null(strstr(r.d.reason, "completion-timeout"));
    }
}

static void progress_timeout(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_NONE);
    r.config.progress_timeout = 10 * CLOCK_S;
    pass(&r, 2048, 500); /* 20 s: pass 1 takes what it takes */
    pass(&r, 500, 490);  /* 5 s, and no 5 % */
    assert_int_equal(r.d.action, CONVERGE_GO_ON);
    pass(&r, 490, 480); /* 4.9 s, and no 5 % since the 500 */
    assert_int_equal(r.d.action, CONVERGE_GO_ON);
    sample(&r, 200, 1);
    assert_int_equal(r.d.action, CONVERGE_GO_ON); /* only a pass's end can tell */
    pass(&r, 480, 474);
    assert_int_equal(r.d.action, CONVERGE_GO_ON); /* 14.9 s, but 5.2 % */
    pass(&r, 474, 474);
    pass(&r, 474, 474);
    assert_int_equal(r.d.action, CONVERGE_GO_ON); /* 9.5 s */
    pass(&r, 474, 474);
    assert_int_equal(r.d.action, CONVERGE_GO_ON); /* the third without progress: no policy had a chance */
    pass(&r, 474, 474);
    assert_int_equal(r.d.action, CONVERGE_GIVE_UP);
    assert_non_null(strstr(r.d.reason, "progress-timeout"));
}

/* A lull left little once; what is written since is held back and shrinks, which is progress though it is more. */
static void progress_after_a_lull(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_NONE);
    r.config.progress_timeout = 10 * CLOCK_S;
    pass(&r, 2048, 40);
    pass(&r, 40, 1600);
    for (int remaining = 1600; remaining > 300; remaining = remaining * 8 / 10) {
        pass(&r, (uint64_t)remaining, (uint64_t)remaining * 8 / 10);
        assert_int_equal(r.d.action, CONVERGE_GO_ON);
    }
}

/* A link around the world: it is moved all the same, when what is left to send takes little. */
static void a_switchover_that_takes_too_long_by_itself(void **state) {
    (void)state;
    for (int p = CONVERGE_NONE; p <= CONVERGE_RATE; p++) {
        struct drive r = drive_begin((enum converge_policy)p);
        r.in.overhead = 400 * CLOCK_MS;
        pass(&r, 500, 20);
        assert_int_equal(r.d.action, CONVERGE_GO_ON);
        pass(&r, 20, 1);
        pass(&r, 1, 0);
        assert_int_equal(r.d.action, CONVERGE_STOP);
    }
}

static void without_a_throttle_all_are_none(void **state) {
    (void)state;
    for (int p = CONVERGE_NONE; p <= CONVERGE_RATE; p++) {
        struct drive r = drive_begin((enum converge_policy)p);
        r.in.can_throttle = false;
        for (int i = 0; i < 10; i++) {
            pass(&r, 500, 500);
            sample(&r, 50, 1000);
            assert_true(r.d.action == CONVERGE_GO_ON && r.d.throttle == 0 && !r.d.offer_force);
        }
    }
}

static void stepped_goes_up_by_steps(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_STEPPED);
    r.config.max = 45;
    const unsigned expected[] = { 0, 20, 20, 30, 30, 40, 40, 45, 45, 45 };
    for (size_t i = 0; i < COUNT(expected); i++) {
        pass(&r, 512, 400);
        assert_int_equal(r.d.throttle, expected[i]);
        sample(&r, 50, 5000);
        assert_int_equal(r.d.throttle, expected[i]);
    }
}

static void stepped_counts_passes_in_a_row(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_STEPPED);
    pass(&r, 512, 300);
    pass(&r, 512, 256); /* just the threshold is not above it */
    pass(&r, 512, 300);
    assert_int_equal(r.d.throttle, 0);
    pass(&r, 512, 257);
    assert_int_equal(r.d.throttle, 20);
    r.config.trigger_threshold = 100;
    pass(&r, 512, 400);
    pass(&r, 512, 400);
    assert_int_equal(r.d.throttle, 20);
}

/* Passes of less than 1 s are taken together. */
static void stepped_looks_at_seconds(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_STEPPED);
    for (int i = 0; i < 3; i++) {
        pass(&r, 50, 40);
        assert_int_equal(r.d.throttle, 0);
    }
    pass(&r, 50, 40);
    assert_int_equal(r.d.throttle, 20);
}

static void staged_leaves_passes_that_change(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_STAGED);
    const uint64_t dirtied[] = { 1000, 1100, 1000, 940, 1000, 949 };
    for (size_t i = 0; i < COUNT(dirtied); i++) {
        pass(&r, 1000, dirtied[i]);
        assert_int_equal(r.d.throttle, 0);
    }
    pass(&r, 1000, 920);
    assert_true(r.d.throttle > 0);
}

static void staged_direct_when_little_remains(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_STAGED);
    pass(&r, 2048, 499);
    pass(&r, 499, 499); /* less than 5 s */
    assert_int_equal(r.d.throttle, 90);
    sample(&r, 2900, 10);
    assert_int_equal(r.d.throttle, 90);
    sample(&r, 100, 10);
    assert_int_equal(r.d.throttle, 99);
    sample(&r, 2900, 10);
    assert_true(r.d.throttle == 99 && !r.d.offer_force);
    sample(&r, 100, 10);
    assert_true(r.d.throttle == 90 && r.d.offer_force);
    for (int i = 0; i < 5; i++) { /* and never again less than 10 % for the guest */
        pass(&r, 499, 499);
        assert_true(r.d.throttle == 90 && r.d.offer_force);
    }
    r.config.force = true;
    sample(&r, 10, 10);
    assert_int_equal(r.d.action, CONVERGE_FORCE);
}

static void staged_by_the_formula(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_STAGED);
    pass(&r, 2048, 1000);
    pass(&r, 1000, 1000); /* 10 s: too much for direct. It dirties 100 MiB/s, a fifth of the link's is 20 */
    assert_int_equal(r.d.throttle, 80);
    pass(&r, 1000, 500); /* 50 MiB/s with the 20 % that it had: 8 % */
    assert_int_equal(r.d.throttle, 92);
    pass(&r, 500, 100); /* 20 MiB/s is what it may, and the 5 s are over the 3 */
    assert_true(r.d.throttle == 90 && r.d.offer_force);
}

static void staged_gets_no_weaker(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_STAGED);
    pass(&r, 2048, 1000);
    pass(&r, 1000, 1000);
    unsigned before = r.d.throttle;
    for (uint64_t dirtied = 400; dirtied > 50; dirtied -= 50) {
        pass(&r, 1000, dirtied);
        assert_true(r.d.throttle >= before || r.d.offer_force);
        before = r.d.throttle;
    }
}

static void staged_below_ten_percent_for_three_seconds_at_most(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_STAGED);
    pass(&r, 2048, 1900);
    pass(&r, 100, 1900); /* 1.9 GiB/s: 99 % */
    assert_int_equal(r.d.throttle, 99);
    int64_t since = r.in.now;
    while (r.d.throttle > 90) {
        sample(&r, 50, 10);
        assert_true(r.in.now - since <= 3 * CLOCK_S);
    }
    assert_true(r.d.offer_force && r.in.now - since >= 3 * CLOCK_S);
}

/* `count` samples in each of which it runs. */
static void runs(struct drive *r, int count, double rate) {
    for (int i = 0; i < count; i++) {
        sample(r, 50, rate);
        assert_int_equal(r->d.throttle, 0);
    }
}

/* A guest that writes `rate` MiB/s to 512 MiB, after pass 1, which has to be made anyhow, and pass 2, which shows what
 * sending again costs, and as long as it is looked whether what remains falls. */
static struct drive hard_guest(unsigned max, double rate) {
    struct drive r = drive_begin(CONVERGE_RATE);
    r.config.max = max;
    runs(&r, 20, rate);
    pass(&r, 2048, 512);
    runs(&r, 20, rate);
    pass(&r, 512, 512);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(r.d.throttle, 0);
        sample(&r, 50, rate);
    }
    assert_true(r.d.throttle > 0);
    return r;
}

static void rate_holds_what_the_link_cannot_follow(void **state) {
    (void)state;
    struct drive r = hard_guest(99, 1500);
    assert_int_equal(r.d.throttle, 99); /* 15 of 1500 MiB/s */
    unsigned changes = 0;
    for (int i = 0; i < 60; i++) { /* noise of a third */
        unsigned before = r.d.throttle;
        sample(&r, 50, i % 2 != 0 ? 10 : 20);
        changes += r.d.throttle != before;
    }
    assert_true(changes == 0 && r.d.throttle == 99);
    pass(&r, 512, 20);
    assert_true(r.d.action == CONVERGE_STOP && r.d.throttle == 0);
}

static void rate_corrects_by_what_it_measures(void **state) {
    (void)state;
    struct drive r = hard_guest(99, 300);
    assert_int_equal(r.d.throttle, 95);
    for (int i = 0; i < 20; i++) { /* it gets more work done than its share */
        sample(&r, 50, 900 * (100 - r.in.throttle) / 100.0);
    }
    assert_in_range(r.d.throttle, 98, 99);
    for (int i = 0; i < 40; i++) {
        sample(&r, 50, 110 * (100 - r.in.throttle) / 100.0);
    }
    assert_in_range(r.d.throttle, 80, 92); /* gentler, and not let go: 110 is still too much */
}

static void rate_lets_go_when_the_guest_calms_down(void **state) {
    (void)state;
    struct drive r = hard_guest(99, 1500);
    sample(&r, 50, 15);
    assert_int_equal(r.d.throttle, 99);
    for (int i = 0; i < 4; i++) {
        sample(&r, 50, 0.1);
    }
    assert_int_equal(r.d.throttle, 0);
    for (int i = 0; i < 20; i++) {
        sample(&r, 50, 10);
        assert_int_equal(r.d.throttle, 0);
    }
    for (int i = 0; i < 4; i++) {
        sample(&r, 50, 1500);
    }
    assert_int_equal(r.d.throttle, 99); /* the next burst */
}

/* Pass 2 costs the guest nothing, but time: where there is none it is held back at once. */
static void rate_learns_only_while_there_is_time(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_RATE);
    r.config.completion_timeout = 40 * CLOCK_S; /* pass 1 takes half of it, pass 2 a quarter */
    runs(&r, 20, 1500);
    pass(&r, 2048, 1024);
    for (int i = 0; i < 6; i++) {
        sample(&r, 50, 1500);
    }
    assert_int_equal(r.d.throttle, 99);
}

static void rate_leaves_passes_that_shrink(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_RATE);
    uint64_t before = 2048;
    for (uint64_t dirtied = 600; dirtied > 30; dirtied = dirtied * 6 / 10) {
        for (int i = 0; i < 10; i++) {
            sample(&r, 50, 60);
        }
        pass(&r, before, dirtied);
        assert_int_equal(r.d.throttle, 0);
        before = dirtied;
    }
}

/* Nearly all that the guest writes to waits to be sent: what remains falls though it writes more than the link carries.
 */
static void rate_waits_while_what_remains_falls(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_RATE);
    runs(&r, 20, 200);
    pass(&r, 2048, 1000);
    runs(&r, 20, 200);
    pass(&r, 1000, 1000);
    for (int i = 0; i < 20; i++) {
        r.in.remaining -= 4 * MIB; /* 80 of the link's 100 MiB/s */
        sample(&r, 50, 200);
        assert_int_equal(r.d.throttle, 0);
    }
    for (int i = 0; i < 8; i++) {
        r.in.remaining -= MIB;
        sample(&r, 50, 200 * (100 - r.in.throttle) / 100.0);
    }
    assert_in_range(r.d.throttle, 92, 93); /* 15 of 200 MiB/s */
}

/* A guest that calms down for long enough to send all that it writes to. */
static void rate_waits_for_a_long_lull(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_RATE);
    for (int i = 0; i < 240; i++) { /* 1 s of writing, 5 s of none */
        sample(&r, 50, i % 120 < 20 ? 1500 : 0);
    }
    pass(&r, 2048, 400);
    for (int i = 0; i < 20; i++) {
        sample(&r, 50, 1500);
        assert_int_equal(r.d.throttle, 0);
    }
}

static void rate_within_what_is_allowed(void **state) {
    (void)state;
    struct drive r = hard_guest(70, 1500);
    assert_int_equal(r.d.throttle, 70);
    for (int i = 0; i < 3; i++) {
        pass(&r, 512, 512);
    }
    assert_true(r.d.throttle == 0 && r.d.offer_force); /* it does not help: no reason to go on with it */
}

static void another_policy_while_it_runs(void **state) {
    (void)state;
    struct drive r = drive_begin(CONVERGE_STEPPED);
    pass(&r, 512, 512);
    pass(&r, 512, 512);
    assert_int_equal(r.d.throttle, 20);
    r.config.policy = CONVERGE_NONE;
    sample(&r, 50, 100);
    assert_int_equal(r.d.throttle, 0);
    r.config.policy = CONVERGE_RATE;
    for (int i = 0; i < 4; i++) {
        sample(&r, 50, 1000);
    }
    pass(&r, 512, 512);
    sample(&r, 200, 1000);
    assert_true(r.d.throttle > 90);
}

/* Whatever comes in, what comes out is a decision. */
static void senseless_samples(void **state) {
    (void)state;
    const double rates[] = { 0, -1, 1, 1e9, 1e300, INFINITY, NAN };
    uint64_t seed = 1;
    for (int p = CONVERGE_NONE; p <= CONVERGE_RATE; p++) {
        struct drive r = drive_begin((enum converge_policy)p);
        for (int i = 0; i < 20000; i++) {
            r.in.wire_rate = rates[random_below(&seed, COUNT(rates))];
            r.in.ratio = rates[random_below(&seed, COUNT(rates))];
            r.in.dirty_rate = rates[random_below(&seed, COUNT(rates))];
            r.in.dirty_interval = (int64_t)random_below(&seed, 3) * 40 * CLOCK_MS - 1;
            r.in.remaining = random_next(&seed) >> random_below(&seed, 64);
            r.in.pass_ended = random_below(&seed, 2) != 0;
            r.in.pass_sent = random_next(&seed) >> random_below(&seed, 64);
            r.in.pass_dirtied = random_next(&seed) >> random_below(&seed, 64);
            r.in.pass_time = (int64_t)random_below(&seed, 3) * CLOCK_S;
            r.in.pass += r.in.pass_ended;
            r.in.now += (int64_t)random_below(&seed, 100) * CLOCK_MS;
            r.config.max = (unsigned)random_below(&seed, 100);
            take_step(&r);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forecast_of_the_downtime),
        cmocka_unit_test(stops_when_it_fits),
        cmocka_unit_test(a_few_more_passes_while_they_shrink_fast),
        cmocka_unit_test(no_extra_passes_while_the_guest_is_held_back),
        cmocka_unit_test(the_operator_forces),
        cmocka_unit_test(completion_timeout),
        cmocka_unit_test(progress_timeout),
        cmocka_unit_test(progress_after_a_lull),
        cmocka_unit_test(a_switchover_that_takes_too_long_by_itself),
        cmocka_unit_test(without_a_throttle_all_are_none),
        cmocka_unit_test(stepped_goes_up_by_steps),
        cmocka_unit_test(stepped_counts_passes_in_a_row),
        cmocka_unit_test(stepped_looks_at_seconds),
        cmocka_unit_test(staged_leaves_passes_that_change),
        cmocka_unit_test(staged_direct_when_little_remains),
        cmocka_unit_test(staged_by_the_formula),
        cmocka_unit_test(staged_gets_no_weaker),
        cmocka_unit_test(staged_below_ten_percent_for_three_seconds_at_most),
        cmocka_unit_test(rate_holds_what_the_link_cannot_follow),
        cmocka_unit_test(rate_corrects_by_what_it_measures),
        cmocka_unit_test(rate_lets_go_when_the_guest_calms_down),
        cmocka_unit_test(rate_learns_only_while_there_is_time),
        cmocka_unit_test(rate_leaves_passes_that_shrink),
        cmocka_unit_test(rate_waits_while_what_remains_falls),
        cmocka_unit_test(rate_waits_for_a_long_lull),
        cmocka_unit_test(rate_within_what_is_allowed),
        cmocka_unit_test(another_policy_while_it_runs),
        cmocka_unit_test(senseless_samples),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
