/* SPDX-License-Identifier: Apache-2.0 */
/* What a migration is predicted to be: on invented traces, where the answer can be worked out. */
#include "base/bits.h"
#include "base/clock.h"
#include "predict/content.h"
#include "predict/outlook.h"
#include "predict/simulate.h"
#include "predict/trace.h"
#include "support.h"

#define PAGES 16384u /* 64 MiB, each page in the sample */
#define PAGE 4096.0
#define RATE 100e6 /* bytes/s */

static void assert_near(double value, double expected, double part) {
    if (value < expected * (1 - part) || value > expected * (1 + part)) {
        fail_msg("%g is not within %g %% of %g", value, part * 100, expected);
    }
}

static uint8_t content[PAGES];

/* `count` scans of 50 ms; in each the guest writes `each` pages of the first `set`, one after the other. */
static void invent(struct trace *t, unsigned count, uint32_t each, uint32_t set) {
    struct error err = { 0 };
    uint32_t at = 0;
    trace_init(t, PAGES, 1);
    for (unsigned i = 0; i < count; i++) {
        uint64_t *written = trace_add(t, 50 * CLOCK_MS, &err);
        assert_non_null(written);
        for (uint32_t k = 0; k < each; k++) {
            bits_set(written, at);
            at = at + 1 < set ? at + 1 : 0;
        }
    }
}

static struct sim_guest guest_of(const struct trace *t) {
    memset(content, SIM_DATA, sizeof(content));
    return (struct sim_guest){ .trace = t,
                               .content = content,
                               .ram = (uint64_t)PAGES * 4096,
                               .full = { PAGE, 0 },
                               .again = { PAGE, 0 },
                               .change = { 20, 0 } };
}

static struct sim_setting setting_of(enum converge_policy policy) {
    return (struct sim_setting){ .converge = { .policy = policy,
                                               .trigger_threshold = 50,
                                               .initial = 20,
                                               .increment = 10,
                                               .max = 99,
                                               .downtime_limit = 300 * CLOCK_MS,
                                               .progress_timeout = 60 * CLOCK_S },
                                 .can_throttle = true,
                                 .wire_rate = RATE,
                                 .most = 600 * CLOCK_S };
}

static struct sim_result run(const struct sim_guest *guest, const struct sim_setting *setting) {
    struct error err = { 0 };
    struct sim_result r;
    assert_int_equal(simulate(guest, setting, &r, &err), 0);
    return r;
}

struct tally {
    unsigned calls;
    uint64_t seen[PAGES / 64];
};

static void count_page(void *opaque, uint32_t page) {
    struct tally *t = opaque;
    t->calls++;
    bits_set(t->seen, page);
}

/* However it is cut into steps, a round through the trace writes what it has, and the next round the same. */
static void test_replay_gives_back_the_trace(void **state) {
    (void)state;
    struct trace t;
    struct trace_replay r;
    struct error err = { 0 };
    invent(&t, 7, 100, 250);
    assert_int_equal(t.length, 350 * CLOCK_MS);
    for (int64_t step = CLOCK_MS / 3; step < 400 * CLOCK_MS; step *= 7) {
        struct tally tally = { 0 };
        assert_int_equal(trace_replay_begin(&r, &t, 3 * t.length + 120 * CLOCK_MS, &err), 0);
        assert_int_equal(r.scan, 2);
        for (int64_t done = 0; done < 2 * t.length; done += step) {
            trace_replay(&r, 2 * t.length - done < step ? 2 * t.length - done : step, count_page, &tally);
        }
        assert_int_equal(bits_count(tally.seen, PAGES), 250);
        assert_in_range(tally.calls, 1300, 1400); /* it began within a scan, whose beginning comes only once */
        trace_replay_end(&r);
    }
    trace_free(&t);
}

static void test_half_of_a_scan_writes_half_of_its_pages(void **state) {
    (void)state;
    struct trace t;
    struct trace_replay r;
    struct error err = { 0 };
    struct tally tally = { 0 };
    invent(&t, 1, 200, 200);
    assert_int_equal(trace_replay_begin(&r, &t, 0, &err), 0);
    trace_replay(&r, 25 * CLOCK_MS, count_page, &tally);
    assert_int_equal(tally.calls, 100);
    assert_int_equal(bits_count(tally.seen, PAGES), 100);
    trace_replay_end(&r);
    trace_free(&t);
}

/* All memory once, at the link's rate. */
static void test_idle_guest(void **state) {
    (void)state;
    struct trace t;
    invent(&t, 20, 0, 1);
    struct sim_guest guest = guest_of(&t);
    struct sim_setting setting = setting_of(CONVERGE_RATE);
    struct sim_result r = run(&guest, &setting);
    assert_true(r.ends);
    assert_in_range(r.passes, 1, 2); /* the second finds nothing */
    assert_int_equal(r.throttle, 0);
    assert_int_equal(r.held, 0);
    assert_near(r.wire, PAGES * PAGE, 0.001);
    assert_near((double)r.total / 1e9, PAGES * PAGE / RATE, 0.15);
    trace_free(&t);
}

static void test_holes_and_zeros_cost_nothing(void **state) {
    (void)state;
    struct trace t;
    invent(&t, 20, 0, 1);
    struct sim_guest guest = guest_of(&t);
    memset(content, SIM_HOLE, PAGES / 2);
    memset(content + PAGES / 2, SIM_ZERO, PAGES / 4);
    struct sim_setting setting = setting_of(CONVERGE_NONE);
    struct sim_result r = run(&guest, &setting);
    assert_true(r.ends);
    assert_near(r.wire, PAGES * PAGE / 4, 0.001);
    trace_free(&t);
}

/* The CPUs are slower than the link: they are what a pass takes. */
static void test_bound_by_the_cpu(void **state) {
    (void)state;
    struct trace t;
    invent(&t, 20, 0, 1);
    struct sim_guest guest = guest_of(&t);
    guest.full.ns = 4 * PAGE * 1e9 / RATE;
    struct sim_setting setting = setting_of(CONVERGE_NONE);
    struct sim_result r = run(&guest, &setting);
    assert_true(r.ends);
    assert_near((double)r.total / 1e9, 4 * PAGES * PAGE / RATE, 0.05);
    trace_free(&t);
}

/* 32 MiB, written at four times what the link carries, and no room for it in the pause. */
static struct trace hot_trace(void) {
    struct trace t;
    invent(&t, 40, (uint32_t)(4 * RATE / PAGE / 20), PAGES / 2);
    return t;
}

static void test_none_does_not_end(void **state) {
    (void)state;
    struct trace t = hot_trace();
    struct sim_guest guest = guest_of(&t);
    struct sim_setting setting = setting_of(CONVERGE_NONE);
    setting.converge.downtime_limit = 100 * CLOCK_MS;
    struct sim_result r = run(&guest, &setting);
    assert_false(r.ends);
    assert_near((double)r.total / 1e9, 60, 0.1);
    assert_non_null(strstr(r.reason, "progress-timeout"));
    assert_near(r.remaining, PAGES / 2 * PAGE, 0.1);
    assert_int_equal(r.held, 0);
    trace_free(&t);
}

static void test_throttles_end(void **state) {
    (void)state;
    struct trace t = hot_trace();
    struct sim_guest guest = guest_of(&t);
    static const enum converge_policy policies[] = { CONVERGE_STEPPED, CONVERGE_STAGED, CONVERGE_RATE };
    for (size_t i = 0; i < 3; i++) {
        struct sim_setting setting = setting_of(policies[i]);
        setting.converge.downtime_limit = 100 * CLOCK_MS;
        struct sim_result r = run(&guest, &setting);
        assert_true(r.ends);
        assert_false(r.forced);
        assert_true(r.throttle > 50);
        assert_true(r.held > 0);
        assert_in_range(r.downtime, 1, 150 * CLOCK_MS);
    }
    trace_free(&t);
}

static void test_a_guest_that_cannot_be_held_back(void **state) {
    (void)state;
    struct trace t = hot_trace();
    struct sim_guest guest = guest_of(&t);
    struct sim_setting setting = setting_of(CONVERGE_RATE);
    setting.converge.downtime_limit = 100 * CLOCK_MS;
    setting.can_throttle = false;
    assert_false(run(&guest, &setting).ends);
    trace_free(&t);
}

static void test_completion_timeout(void **state) {
    (void)state;
    struct trace t = hot_trace();
    struct sim_guest guest = guest_of(&t);
    struct sim_setting setting = setting_of(CONVERGE_NONE);
    setting.converge.downtime_limit = 100 * CLOCK_MS;
    setting.converge.completion_timeout = 5 * CLOCK_S;
    struct sim_result r = run(&guest, &setting);
    assert_false(r.ends);
    assert_non_null(strstr(r.reason, "completion-timeout"));
    assert_near((double)r.total / 1e9, 5, 0.1);
    setting.converge.timeout_action = CONVERGE_TIMEOUT_FORCE;
    r = run(&guest, &setting);
    assert_true(r.ends);
    assert_true(r.forced);
    assert_near((double)r.downtime / 1e9, PAGES / 2 * PAGE / RATE, 0.2);
    trace_free(&t);
}

/* As the engine does it: the rest of the pass goes while the guest runs. */
static void test_force_waits_for_the_end_of_the_pass(void **state) {
    (void)state;
    struct trace t;
    invent(&t, 20, 0, 1);
    struct sim_guest guest = guest_of(&t);
    struct sim_setting setting = setting_of(CONVERGE_NONE);
    setting.converge.completion_timeout = 300 * CLOCK_MS;
    setting.converge.timeout_action = CONVERGE_TIMEOUT_FORCE;
    struct sim_result r = run(&guest, &setting);
    assert_true(r.ends);
    assert_near((double)r.total / 1e9, PAGES * PAGE / RATE, 0.15);
    assert_true(r.downtime < 100 * CLOCK_MS);
    trace_free(&t);
}

static void test_given_up_after_most(void **state) {
    (void)state;
    struct trace t = hot_trace();
    struct sim_guest guest = guest_of(&t);
    struct sim_setting setting = setting_of(CONVERGE_NONE);
    setting.converge.downtime_limit = 100 * CLOCK_MS;
    setting.converge.progress_timeout = 0;
    setting.most = 20 * CLOCK_S;
    struct sim_result r = run(&guest, &setting);
    assert_false(r.ends);
    assert_string_equal(r.reason, "it takes too long");
    trace_free(&t);
}

/* The same load ends without any throttle when a cache makes changes of it, */
static void test_changes_are_small(void **state) {
    (void)state;
    struct trace t = hot_trace();
    struct sim_guest guest = guest_of(&t);
    struct sim_setting setting = setting_of(CONVERGE_NONE);
    setting.converge.downtime_limit = 100 * CLOCK_MS;
    guest.changes = 1;
    guest.cache_pages = PAGES;
    assert_true(run(&guest, &setting).ends);
    /* and not when the cache has no room for it. */
    guest.cache_pages = PAGES / 16;
    assert_false(run(&guest, &setting).ends);
    trace_free(&t);
}

/* So it does when the guest writes what is there already. */
static void test_what_did_not_change_is_not_sent(void **state) {
    (void)state;
    struct trace t = hot_trace();
    struct sim_guest guest = guest_of(&t);
    struct sim_setting setting = setting_of(CONVERGE_NONE);
    guest.unchanged = 1;
    struct sim_result r = run(&guest, &setting);
    assert_true(r.ends);
    assert_near(r.wire, PAGES * PAGE, 0.01);
    trace_free(&t);
}

static void test_a_sample_stands_for_more(void **state) {
    (void)state;
    struct trace t;
    invent(&t, 20, 0, 1);
    t.scale = 8;
    struct sim_guest guest = guest_of(&t);
    struct sim_setting setting = setting_of(CONVERGE_NONE);
    struct sim_result r = run(&guest, &setting);
    assert_near(r.wire, 8 * PAGES * PAGE, 0.001);
    assert_near((double)r.total / 1e9, 8 * PAGES * PAGE / RATE, 0.02);
    trace_free(&t);
}

#define SOME_PAGES 1024u

static struct content measured(const struct params *params, bool noise) {
    struct error err = { 0 };
    struct content c;
    uint8_t *bytes = malloc((size_t)SOME_PAGES * 4096);
    uint64_t state = 88172645463325252u;
    assert_non_null(bytes);
    for (size_t i = 0; i < (size_t)SOME_PAGES * 4096; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes[i] = (uint8_t)(noise ? state >> 32 : (state >> 32) & 7);
    }
    assert_int_equal(content_measure(&c, params, bytes, SOME_PAGES, &err), 0);
    free(bytes);
    return c;
}

static struct content_means means_of(double wire_rate) {
    return (struct content_means){ .gather_ns = 0.3, .cpus = 1, .threads = 1, .channels = 2, .wire_rate = wire_rate };
}

/* The slower the link, the stronger the codec; and CPUs that others use are not there. */
static void test_codecs_follow_the_link(void **state) {
    (void)state;
    struct params params;
    struct rung use;
    double ratio;
    params_init(&params);
    struct content c = measured(&params, false);
    assert_int_equal(c.count, CHOICE_RUNGS);
    assert_true(c.stretch >= 1);
    struct content_means fast = means_of(1e12), slow = means_of(1e6);
    struct sim_cost raw = content_cost(&c, &fast, &use, &ratio);
    assert_int_equal(use.codec, CODEC_NONE);
    assert_true(ratio == 1.0);
    struct sim_cost small = content_cost(&c, &slow, &use, &ratio);
    assert_int_equal(use.codec, CODEC_ZSTD);
    assert_true(ratio < 0.6 && small.bytes < 0.6 * raw.bytes && small.ns > raw.ns);
    slow.stretch = 4;
    assert_near(content_cpus(&slow), 0.25, 0.001);
    assert_near(content_cpus(&fast), 1, 0.001);
}

static void test_a_codec_that_was_set_stays(void **state) {
    (void)state;
    struct params params;
    struct error err = { 0 };
    struct rung use;
    double ratio;
    params_init(&params);
    assert_int_equal(params_set(&params, "compression=lz4", &err), 0);
    struct content c = measured(&params, false);
    struct content_means fast = means_of(1e12);
    assert_int_equal(c.count, 1);
    content_cost(&c, &fast, &use, &ratio);
    assert_int_equal(use.codec, CODEC_LZ4);
    assert_int_equal(params_set(&params, "compression=none", &err), 0);
    c = measured(&params, false);
    content_cost(&c, &fast, &use, &ratio);
    assert_int_equal(use.codec, CODEC_NONE);
}

static void test_noise_goes_as_it_is(void **state) {
    (void)state;
    struct params params;
    double ratio;
    struct rung use;
    params_init(&params);
    struct content c = measured(&params, true);
    struct content_means slow = means_of(1e6);
    content_cost(&c, &slow, &use, &ratio);
    assert_near(ratio, 1, 0.001);
}

/* A guest of nothing but zeros. */
static void test_nothing_to_compress(void **state) {
    (void)state;
    struct params params;
    struct error err = { 0 };
    struct content c;
    params_init(&params);
    assert_int_equal(content_measure(&c, &params, NULL, 0, &err), 0);
    assert_int_equal(c.count, 0);
    struct content_means means = means_of(1e8);
    assert_near(content_cost(&c, &means, NULL, NULL).bytes, PAGE, 0.01);
}

static void keep_price(struct sim_guest *guest, double wire_rate, double cpus, void *opaque) {
    (void)guest;
    (void)opaque;
    assert_true(wire_rate > 0 && cpus > 0 && cpus <= 1);
}

static struct outlook ask(const struct trace *t, int64_t downtime_limit, bool can_throttle) {
    struct error err = { 0 };
    struct outlook o;
    struct outlook_question q = {
        .guest = guest_of(t), .setting = setting_of(CONVERGE_NONE), .wire_rate = RATE, .price = keep_price
    };
    q.setting.converge.downtime_limit = downtime_limit;
    q.setting.can_throttle = can_throttle;
    assert_int_equal(outlook_make(&q, &o, &err), 0);
    for (int i = 0; i < OUTLOOK_POLICIES; i++) {
        const struct outlook_policy *p = &o.policies[i];
        assert_true(p->total.least <= p->total.likely && p->total.likely <= p->total.most);
        assert_true(p->wire.least <= p->wire.likely && p->wire.likely <= p->wire.most);
    }
    return o;
}

/* Where nothing is needed nothing is recommended. */
static void test_outlook_of_an_idle_guest(void **state) {
    (void)state;
    struct trace t;
    invent(&t, 20, 0, 1);
    struct outlook o = ask(&t, 300 * CLOCK_MS, true);
    for (int i = 0; i < OUTLOOK_POLICIES; i++) {
        assert_int_equal(o.policies[i].ends, OUTLOOK_YES);
    }
    assert_int_equal(o.recommended, CONVERGE_NONE);
    trace_free(&t);
}

static void test_outlook_of_a_hot_guest(void **state) {
    (void)state;
    struct trace t = hot_trace();
    struct outlook o = ask(&t, 100 * CLOCK_MS, true);
    assert_int_equal(o.policies[CONVERGE_NONE].ends, OUTLOOK_NO);
    assert_int_equal(o.policies[CONVERGE_RATE].ends, OUTLOOK_YES);
    assert_true(o.recommended > CONVERGE_NONE);
    assert_true(o.policies[o.recommended].lost.likely <= o.policies[CONVERGE_STEPPED].lost.likely + 0.21);
    trace_free(&t);
}

/* What cannot be held back needs a longer pause or a faster link, and that is said. */
static void test_outlook_says_what_would_help(void **state) {
    (void)state;
    struct trace t = hot_trace();
    struct outlook o = ask(&t, 100 * CLOCK_MS, false);
    assert_int_equal(o.recommended, -1);
    assert_int_equal(o.helped, CONVERGE_NONE);
    assert_in_range(o.downtime_limit, 200 * CLOCK_MS, 1600 * CLOCK_MS);
    assert_true(o.link > RATE && o.link <= 64 * RATE);
    trace_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replay_gives_back_the_trace),
        cmocka_unit_test(test_half_of_a_scan_writes_half_of_its_pages),
        cmocka_unit_test(test_idle_guest),
        cmocka_unit_test(test_holes_and_zeros_cost_nothing),
        cmocka_unit_test(test_bound_by_the_cpu),
        cmocka_unit_test(test_none_does_not_end),
        cmocka_unit_test(test_throttles_end),
        cmocka_unit_test(test_a_guest_that_cannot_be_held_back),
        cmocka_unit_test(test_completion_timeout),
        cmocka_unit_test(test_force_waits_for_the_end_of_the_pass),
        cmocka_unit_test(test_given_up_after_most),
        cmocka_unit_test(test_changes_are_small),
        cmocka_unit_test(test_what_did_not_change_is_not_sent),
        cmocka_unit_test(test_a_sample_stands_for_more),
        cmocka_unit_test(test_codecs_follow_the_link),
        cmocka_unit_test(test_a_codec_that_was_set_stays),
        cmocka_unit_test(test_noise_goes_as_it_is),
        cmocka_unit_test(test_nothing_to_compress),
        cmocka_unit_test(test_outlook_of_an_idle_guest),
        cmocka_unit_test(test_outlook_of_a_hot_guest),
        cmocka_unit_test(test_outlook_says_what_would_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
