/* SPDX-License-Identifier: Apache-2.0 */
/* The plan is a pure function: hosts, loads and clocks are invented. */
#include "policy/plan.h"
#include "support.h"

#include <math.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define STEP (250 * CLOCK_MS)

/* An idle host with 8 CPUs and 32 GiB that knows all about itself, and a guest of 8 GiB. */
static struct plan_input host(void) {
    return (struct plan_input){
        .now = CLOCK_S,
        .cpus = 8,
        .cpu_idle = 8,
        .memory_available = 24 * GIB,
        .delta_cache = PLAN_DELTA_AUTO,
        .guest_bytes = 8 * GIB,
        .channels = 4,
        .pages_per_batch = 128,
        .link_bound = true,
    };
}

static uint64_t memory_of(const struct plan_input *in, const struct plan *p) {
    return p->buffers * plan_buffer_bytes(in->pages_per_batch) + p->digest_bytes + p->delta_cache;
}

/* What holds for every plan. */
static void check(const struct plan_input *in, const struct plan *p) {
    uint64_t each = plan_buffer_bytes(in->pages_per_batch);
    assert_true(p->compress_threads >= 1 && p->decompress_threads >= 1);
    assert_true(p->compress_threads <= PLAN_MAX_THREADS || in->compress_threads > PLAN_MAX_THREADS);
    assert_true(p->decompress_threads <= PLAN_MAX_THREADS || in->decompress_threads > PLAN_MAX_THREADS);
    assert_true(p->cpu_share > 0 && p->cpu_share <= (in->cpus > 0 ? in->cpus : 1));
    if (in->cpu_budget > 0) {
        assert_true(p->cpu_share <= in->cpu_budget / 100.0);
        assert_true(p->compress_threads <= (in->cpu_budget + 99) / 100);
        assert_true(p->decompress_threads <= (in->cpu_budget + 99) / 100);
    }
    assert_true(p->buffers >= in->channels);
    if (in->memory_budget > 0 && in->memory_budget >= in->channels * each) {
        assert_true(memory_of(in, p) <= in->memory_budget);
    } else if (in->memory_budget > 0) {
        assert_true(p->digest_bytes == 0 && p->delta_cache == 0 && p->buffers == in->channels);
    }
    assert_true(p->digest_bytes <= in->guest_bytes / 256 + 16);
    assert_true(in->delta_cache != 0 || p->delta_cache == 0);
    assert_non_null(p->reason);
}

static struct plan first_plan(const struct plan_input *in) {
    struct plan p;
    plan_make(in, NULL, &p);
    check(in, &p);
    return p;
}

/* `steps` more plans from the same measurements. */
static void settle(struct plan_input *in, struct plan *p, int steps) {
    for (int i = 0; i < steps; i++) {
        in->now += STEP;
        plan_make(in, p, p);
        check(in, p);
    }
}

static void hosts_and_their_plans(void **state) {
    (void)state;
    const struct {
        const char *what;
        double cpus, idle, own;
        unsigned compress, decompress;
        double share, waits;
    } cases[] = {
        { "two CPUs, a busy vCPU", 2, 1, 0, 2, 1, 1 },
        { "two CPUs, a busy vCPU, and we have the other", 2, 0, 1, 2, 1, 1 },
        { "two CPUs, a vCPU that is busy at times", 2, 0.9, 0, 1, 1, 0.9, 15 },
        { "two CPUs, two busy vCPUs", 2, 0, 0, 1, 1, 0.5, 15 },
        { "two CPUs, two busy vCPUs, and nobody knows whether they wait", 2, 0, 0, 1, 1, 0.5, -1 },
        { "two CPUs, others are busy, and the guest does not wait", 2, 0, 0, 2, 1, 1 },
        { "a quarter more than a CPU", 2, 1.25, 0, 2, 1, 1.25 },
        { "a quarter more than a CPU, and the guest waits a little", 2, 1.25, 0, 2, 1, 1.25, 15 },
        { "two idle CPUs", 2, 2, 0, 2, 1, 2 },
        { "64 idle CPUs", 64, 64, 0, 16, 8, 64 },
        { "eight CPUs, three idle", 8, 3, 0, 4, 2, 3 },
        { "a quota of half a CPU", 0.5, 0.5, 0, 1, 1, 0.5 },
        { "a quota of next to nothing", 0.01, 0.01, 0, 1, 1, 0.01 },
        { "nothing is known", 0, -1, -1, 1, 1, 1 },
        { "nothing but the number of CPUs", 64, -1, -1, 2, 1, 1 },
        { "more than there is", 4, 9, 9, 4, 2, 4 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct plan_input in = host();
        in.cpus = cases[i].cpus;
        in.cpu_idle = cases[i].idle;
        in.cpu_own = cases[i].own;
        in.cpu_pressure = cases[i].waits;
        struct plan p = first_plan(&in);
        if (p.compress_threads != cases[i].compress || p.decompress_threads != cases[i].decompress ||
            fabs(p.cpu_share - cases[i].share) > 1e-9) {
            fail_msg("%s: %u and %u threads, a share of %g", cases[i].what, p.compress_threads, p.decompress_threads,
                     p.cpu_share);
        }
    }
}

static void the_users_threads_hold_within_the_budget(void **state) {
    (void)state;
    struct plan_input in = host();
    in.cpus = in.cpu_idle = 2;
    in.compress_threads = 40;
    in.decompress_threads = 20;
    struct plan p = first_plan(&in);
    assert_int_equal(p.compress_threads, 40);
    assert_int_equal(p.decompress_threads, 20);
    in.cpu_budget = 150;
    p = first_plan(&in);
    assert_int_equal(p.compress_threads, 2);
    assert_int_equal(p.decompress_threads, 2);
    assert_true(p.cpu_share <= 1.5);
    in.cpu_budget = 1;
    p = first_plan(&in);
    assert_int_equal(p.compress_threads, 1);
    assert_true(p.cpu_share <= 0.01);
}

static void a_budget_that_is_lowered_holds_at_once(void **state) {
    (void)state;
    struct plan_input in = host();
    struct plan p = first_plan(&in);
    assert_true(p.cpu_share > 7.9);
    in.cpu_budget = 790; /* within what is otherwise no change */
    settle(&in, &p, 1);
    in.cpu_budget = 100;
    settle(&in, &p, 1);
    assert_int_equal(p.compress_threads, 1);
    assert_string_equal(p.reason, "the CPU limit was lowered");
    in.cpu_budget = 0;
    settle(&in, &p, 20);
    assert_true(p.cpu_share > 7);
}

static void more_threads_than_channels_only_for_a_slow_link(void **state) {
    (void)state;
    struct plan_input in = host();
    in.link_bound = false;
    struct plan p = first_plan(&in);
    assert_int_equal(p.compress_threads, 4);
    in.link_bound = true;
    settle(&in, &p, 1);
    assert_int_equal(p.compress_threads, 8);
    in.link_bound = false; /* for a moment: is remembered */
    settle(&in, &p, 4);
    assert_int_equal(p.compress_threads, 8);
    settle(&in, &p, 20);
    assert_int_equal(p.compress_threads, 4);
}

static void digests_come_first_then_the_delta_cache(void **state) {
    (void)state;
    const uint64_t table = 8 * GIB / 256;
    const struct {
        const char *what;
        uint64_t available, budget;
        uint64_t digests, least_delta, most_delta;
    } cases[] = {
        { "plenty: half of the guest and 64 MiB", 1024 * GIB, 0, table, 3900 * MIB, 4160 * MIB },
        { "tight: an eighth of 100 MiB, less the buffers", 100 * MIB, 0, 1, 0, 0 },
        { "nothing known", 0, 0, 0, 0, 0 },
        { "a budget for the buffers and half of the table", 24 * GIB, 36 * MIB, 1, 0, 0 },
        { "a budget for the table and a little", 24 * GIB, 60 * MIB, table, 0, 0 },
        { "a budget for more", 24 * GIB, 256 * MIB, table, 180 * MIB, 224 * MIB },
        { "a budget for not even the buffers", 24 * GIB, MIB, 0, 0, 0 },
        { "a budget beyond the host", GIB, 16 * GIB, table, 15 * GIB, 16 * GIB },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct plan_input in = host();
        in.memory_available = cases[i].available;
        in.memory_budget = cases[i].budget;
        struct plan p = first_plan(&in);
        bool digests =
            cases[i].digests == 1 ? p.digest_bytes > 0 && p.digest_bytes < table : p.digest_bytes == cases[i].digests;
        if (!digests || p.delta_cache < cases[i].least_delta || p.delta_cache > cases[i].most_delta) {
            fail_msg("%s: %llu bytes of digests, %llu of delta cache", cases[i].what,
                     (unsigned long long)p.digest_bytes, (unsigned long long)p.delta_cache);
        }
    }
}

/* To change the cache's size costs what is in it: not for a thread more or less, nor for what it holds itself. */
static void the_delta_cache_stays_as_threads_come_and_go(void **state) {
    (void)state;
    struct plan_input in = host();
    in.guest_bytes = 2 * GIB;
    in.memory_available = 20 * GIB;
    struct plan p = first_plan(&in);
    uint64_t cache = p.delta_cache;
    unsigned threads = p.compress_threads;
    bool fewer = false;
    for (int i = 0; i < 200; i++) {
        in.now += STEP;
        in.cpu_idle = i / 40 % 2 == 0 ? 1 : 8;
        in.memory_own = (uint64_t)i * 8 * MIB < cache ? (uint64_t)i * 8 * MIB : cache;
        in.memory_available = 8 * GIB - in.memory_own; /* an eighth of it all is less than what it may have */
        plan_make(&in, &p, &p);
        check(&in, &p);
        fewer |= p.compress_threads < threads;
        if (i == 0) {
            cache = p.delta_cache;
        }
        assert_int_equal(p.delta_cache, cache);
    }
    assert_true(fewer && cache > 0);
}

static void the_users_delta_cache(void **state) {
    (void)state;
    struct plan_input in = host();
    in.delta_cache = 0;
    struct plan p = first_plan(&in);
    assert_true(p.delta_cache == 0 && p.digest_bytes == 32 * MIB);
    in.delta_cache = (int64_t)(20 * GIB); /* more than would be planned: it is the user's word */
    p = first_plan(&in);
    assert_true(p.delta_cache == 20 * GIB && p.digest_bytes == 32 * MIB);
    in.memory_budget = GIB; /* and this too */
    p = first_plan(&in);
    assert_true(p.delta_cache > 900 * MIB && p.delta_cache < GIB && p.digest_bytes == 0);
    in.delta_cache = (int64_t)(8 * MIB);
    p = first_plan(&in);
    assert_true(p.delta_cache == 8 * MIB && p.digest_bytes == 32 * MIB);
    in.delta_cache = INT64_MAX;
    in.memory_budget = UINT64_MAX;
    in.guest_bytes = UINT64_MAX;
    first_plan(&in);
}

static void a_host_short_of_memory_gets_the_cache_back(void **state) {
    (void)state;
    struct plan_input in = host();
    struct plan p = first_plan(&in);
    assert_true(p.delta_cache > 0);
    in.memory_pressure = 30;
    settle(&in, &p, 1);
    assert_true(p.delta_cache == 0 && p.digest_bytes > 0);
    assert_string_equal(p.reason, "tasks of the host wait for memory");
    in.memory_pressure = 5; /* better, and not good yet */
    settle(&in, &p, 20);
    assert_true(p.delta_cache == 0);
    in.memory_pressure = 0;
    settle(&in, &p, 1);
    assert_true(p.delta_cache > 0);
    assert_string_equal(p.reason, "more memory is available");
}

static void pressure_halves_the_share_and_calm_brings_it_back(void **state) {
    (void)state;
    struct plan_input in = host();
    in.cpu_idle = 0;
    in.cpu_own = 8; /* all of it is ours, and somebody waits */
    struct plan p = first_plan(&in);
    in.cpu_pressure = 60;
    settle(&in, &p, 4);
    assert_true(p.cpu_share <= 4 && p.cpu_share > 3);
    assert_string_equal(p.reason, "no change");
    settle(&in, &p, 4);
    assert_true(p.cpu_share <= 2 && p.cpu_share > 1.5);
    settle(&in, &p, 40); /* and on, to what any task may have */
    assert_true(p.cpu_share > 0 && p.cpu_share <= 0.5);
    assert_int_equal(p.compress_threads, 1);
    in.cpu_pressure = 15; /* neither: stays */
    double before = p.cpu_share;
    settle(&in, &p, 40);
    assert_true(p.cpu_share >= before && p.cpu_share <= before);
    in.cpu_pressure = 0;
    in.cpu_idle = 8;
    in.cpu_own = 0;
    double last = p.cpu_share;
    for (int i = 0; i < 200; i++) {
        settle(&in, &p, 1);
        assert_true(p.cpu_share >= last && p.cpu_share <= last + 3); /* step by step */
        last = p.cpu_share;
    }
    assert_true(p.cpu_share > 7.9);
}

/* As many threads as the share takes by the clock, while nothing but the link is waited for: not for a while after the
 * guest had to wait, and not where their number is all that keeps to the share. */
static void threads_enough_for_the_share(void **state) {
    (void)state;
    struct plan_input in = host();
    in.cpus = 2;
    in.cpu_idle = 1.25;
    in.cpu_pressure = 15;
    assert_int_equal(first_plan(&in).compress_threads, 2);
    in.link_bound = false;
    assert_int_equal(first_plan(&in).compress_threads, 1);
    in.link_bound = true;
    in.cpu_idle = 2.0;
    struct plan p = first_plan(&in);
    in.cpu_pressure = 60;
    settle(&in, &p, 2);
    assert_true(p.cpu_share <= 1 && p.compress_threads == 1);
    in.cpu_pressure = 15;
    settle(&in, &p, 12);
    assert_int_equal(p.compress_threads, 1);
    settle(&in, &p, 8);
    assert_true(p.cpu_share <= 1 && p.compress_threads == 2);
}

/* One quarter of a second in which a thread waited is no sign. */
static void a_short_wait_changes_nothing(void **state) {
    (void)state;
    struct plan_input in = host();
    in.cpu_pressure = 12;
    struct plan p = first_plan(&in);
    double share = p.cpu_share;
    for (int i = 0; i < 40; i++) {
        in.cpu_pressure = i % 8 == 0 ? 40 : 12;
        settle(&in, &p, 1);
        assert_true(p.cpu_share >= share);
    }
    in.cpu_pressure = 100;
    settle(&in, &p, 3);
    assert_true(p.cpu_share <= share / 2 && p.cpu_share > share / 4);
    in.cpu_pressure = 12; /* what is over is not held against us a second time */
    settle(&in, &p, 40);
    assert_true(p.cpu_share > share / 4);
}

/* A closed loop: what the plan gives is what the engine uses, a vCPU wants a CPU of its own, and there are two. */
static void a_vcpu_gets_its_cpu_back(void **state) {
    (void)state;
    struct plan_input in = host();
    in.cpus = in.cpu_idle = 2; /* the guest sleeps, and wakes up when we have both */
    struct plan p = first_plan(&in);
    double given = 0;
    for (int i = 0; i < 400; i++) {
        double wanted = 1 + p.cpu_share, over = wanted > 2 ? wanted - 2 : 0;
        in.cpu_own = p.cpu_share - over / 2;
        in.cpu_idle = wanted < 2 ? 2 - wanted : 0;
        in.cpu_pressure = over > 0 ? 50 * over + 20 : 0;
        settle(&in, &p, 1);
        given += i >= 40 ? 1 - over / 2 : 0;
    }
    assert_true(given / 360 > 0.9);
}

static void without_pressure_nothing_idle_is_the_sign(void **state) {
    (void)state;
    struct plan_input in = host();
    in.cpu_pressure = -1;
    in.memory_pressure = -1;
    struct plan p = first_plan(&in);
    in.cpu_idle = 0;
    in.cpu_own = 8;
    settle(&in, &p, 1);
    assert_true(p.cpu_share <= 4);
    assert_string_equal(p.reason, "tasks of the host wait for CPUs");
}

/* More idle CPUs never make a smaller plan, the first and from any plan before. */
static void monotone_in_idle_cpus(void **state) {
    (void)state;
    uint64_t seed = 5;
    for (int round = 0; round < 200; round++) {
        struct plan_input in = host();
        in.cpu_idle = (double)random_below(&seed, 800) / 100;
        in.cpu_pressure = (double)random_below(&seed, 60) - 1;
        struct plan before = first_plan(&in), last = { 0 };
        settle(&in, &before, (int)random_below(&seed, 5));
        in.now += (int64_t)random_below(&seed, (uint64_t)(4 * CLOCK_S));
        in.cpu_pressure = (double)random_below(&seed, 60);
        for (int idle = 0; idle <= 80; idle++) {
            struct plan p;
            in.cpu_idle = idle / 10.0;
            plan_make(&in, round % 2 == 0 ? NULL : &before, &p);
            check(&in, &p);
            assert_true(p.cpu_share >= last.cpu_share && p.compress_threads >= last.compress_threads &&
                        p.decompress_threads >= last.decompress_threads);
            last = p;
        }
    }
}

static void a_noisy_host_does_not_make_the_plan_flap(void **state) {
    (void)state;
    const double cpus[] = { 2, 8, 64 };
    for (size_t c = 0; c < COUNT(cpus); c++) {
        uint64_t seed = 11;
        struct plan_input in = host();
        in.cpus = cpus[c];
        in.cpu_idle = cpus[c] / 2;
        struct plan p = first_plan(&in), before;
        int changes = 0, turns = 0, direction = 0;
        for (int i = 0; i < 2000; i++) {
            /* half of the CPUs, give or take a quarter of them; memory gives or takes a tenth; the link in between */
            in.cpu_idle = cpus[c] * (0.25 + (double)random_below(&seed, 1000) / 2000);
            in.cpu_pressure = (double)random_below(&seed, 20);
            in.memory_pressure = (double)random_below(&seed, 8);
            in.memory_available = 20 * GIB + random_below(&seed, 4 * GIB);
            in.link_bound = random_below(&seed, 3) == 0;
            before = p;
            settle(&in, &p, 1);
            changes += plan_differs(&before, &p);
            int now = p.compress_threads > before.compress_threads   ? 1
                      : p.compress_threads < before.compress_threads ? -1
                                                                     : 0;
            turns += now * direction < 0;
            direction = now != 0 ? now : direction;
            assert_true(plan_differs(&before, &p) == (strcmp(p.reason, "no change") != 0));
        }
        if (changes > 40 || turns > 16) {
            fail_msg("%g CPUs: %d changes in 2000 plans, %d turns of the number of threads", cpus[c], changes, turns);
        }
    }
}

/* And yet a change that stays is followed. */
static void a_real_change_is_followed(void **state) {
    (void)state;
    struct plan_input in = host();
    struct plan p = first_plan(&in);
    in.cpu_idle = 2;
    settle(&in, &p, 12); /* three seconds */
    assert_true(p.cpu_share < 2.75 && p.compress_threads <= 3);
    in.cpu_idle = 8;
    settle(&in, &p, 40);
    assert_true(p.cpu_share > 7.9 && p.compress_threads == 8);
    in.memory_available = 2 * GIB;
    settle(&in, &p, 1);
    assert_true(memory_of(&in, &p) <= GIB / 4);
    assert_string_equal(p.reason, "less memory is available");
}

/* A migration on a fast link is over before a guess would have been corrected step by step. */
static void the_first_measure_replaces_the_guess(void **state) {
    (void)state;
    struct plan_input in = host();
    in.cpu_idle = in.cpu_own = -1; /* not known */
    struct plan p = first_plan(&in);
    assert_true(fabs(p.cpu_share - 1) < 0.01);
    in.cpu_own = 0.5;
    in.cpu_idle = 5.5;
    settle(&in, &p, 1);
    assert_true(fabs(p.cpu_share - 6) < 0.01 && p.compress_threads == 8);
    in.cpu_idle = 7.5; /* and the second one is smoothed as ever */
    settle(&in, &p, 1);
    assert_true(p.cpu_share < 6.5);
}

static void whatever_is_measured_the_promises_hold(void **state) {
    (void)state;
    uint64_t seed = 77;
    struct plan p = { 0 };
    for (int i = 0; i < 20000; i++) {
        struct plan_input in = {
            .now = i * (int64_t)random_below(&seed, (uint64_t)CLOCK_S), /* also backwards */
            .cpus = (double)random_below(&seed, 700) / 10,
            .cpu_idle = (double)random_below(&seed, 700) / 10 - 1,
            .cpu_own = (double)random_below(&seed, 90) / 10 - 1,
            .cpu_pressure = (double)random_below(&seed, 102) - 1,
            .memory_pressure = (double)random_below(&seed, 102) - 1,
            .memory_available = random_next(&seed) >> random_below(&seed, 64),
            .cpu_budget = random_below(&seed, 2) ? (unsigned)random_below(&seed, 2000) : 0,
            .memory_budget = random_below(&seed, 2) ? random_next(&seed) >> random_below(&seed, 64) : 0,
            .compress_threads = (int64_t)random_below(&seed, 3) * 20,
            .decompress_threads = (int64_t)random_below(&seed, 3) * 20,
            .delta_cache = random_below(&seed, 2) ? (int64_t)random_below(&seed, 40 * GIB) - 1 : PLAN_DELTA_AUTO,
            .guest_bytes = random_next(&seed) >> random_below(&seed, 64),
            .channels = 1 + (unsigned)random_below(&seed, 16),
            .pages_per_batch = 1 + (unsigned)random_below(&seed, 1024),
            .link_bound = random_below(&seed, 2),
        };
        plan_make(&in, i % 100 == 0 ? NULL : &p, &p);
        check(&in, &p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_and_their_plans),
        cmocka_unit_test(the_users_threads_hold_within_the_budget),
        cmocka_unit_test(a_budget_that_is_lowered_holds_at_once),
        cmocka_unit_test(more_threads_than_channels_only_for_a_slow_link),
        cmocka_unit_test(digests_come_first_then_the_delta_cache),
        cmocka_unit_test(the_delta_cache_stays_as_threads_come_and_go),
        cmocka_unit_test(the_users_delta_cache),
        cmocka_unit_test(a_host_short_of_memory_gets_the_cache_back),
        cmocka_unit_test(pressure_halves_the_share_and_calm_brings_it_back),
        cmocka_unit_test(threads_enough_for_the_share),
        cmocka_unit_test(a_short_wait_changes_nothing),
        cmocka_unit_test(a_vcpu_gets_its_cpu_back),
        cmocka_unit_test(without_pressure_nothing_idle_is_the_sign),
        cmocka_unit_test(monotone_in_idle_cpus),
        cmocka_unit_test(a_noisy_host_does_not_make_the_plan_flap),
        cmocka_unit_test(a_real_change_is_followed),
        cmocka_unit_test(the_first_measure_replaces_the_guess),
        cmocka_unit_test(whatever_is_measured_the_promises_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
