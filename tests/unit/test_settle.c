/* SPDX-License-Identifier: Apache-2.0 */
/* What is settled beside all that could be: every choice of rungs, and every two of them mixed. */
#include "ram/settle.h"
#include "support.h"

#include <math.h>

static double larger(double a, double b) {
    return a > b ? a : b;
}

static double time_of(const struct settle_table *t, const int rung[PAGE_KINDS], double *cpu) {
    double link = 0, peer = 0;
    *cpu = 0;
    for (int k = 0; k < PAGE_KINDS; k++) {
        link += t->part[k] * t->rung[k][rung[k]].link;
        *cpu += t->part[k] * t->rung[k][rung[k]].cpu;
        peer += t->part[k] * t->rung[k][rung[k]].peer;
    }
    return larger(larger(link, *cpu), peer) + t->cpu_price * *cpu;
}

/* The best choice of one rung for each kind. */
static double best_of_all(const struct settle_table *t) {
    double best = INFINITY, cpu;
    int rung[PAGE_KINDS];
    for (unsigned n = 0; n < CHOICE_RUNGS * CHOICE_RUNGS * CHOICE_RUNGS * CHOICE_RUNGS; n++) {
        bool known = true;
        for (unsigned k = 0, rest = n; k < PAGE_KINDS; k++, rest /= CHOICE_RUNGS) {
            rung[k] = (int)(rest % CHOICE_RUNGS);
            known = known && t->rung[k][rung[k]].known;
        }
        double time = known ? time_of(t, rung, &cpu) : INFINITY;
        best = time < best ? time : best;
    }
    return best;
}

static double fraction(uint64_t *seed) {
    return (double)random_below(seed, 1000000) / 1e6;
}

/* A host, a link and contents; stronger rungs are slower. */
static void invent(uint64_t *seed, struct settle_table *t) {
    double link = exp(5 * fraction(seed) - 2), cpus = 0.3 + 4 * fraction(seed), parts = 0;
    t->cpu_price = 0.05;
    for (int k = 0; k < PAGE_KINDS; k++) {
        double shrinks = fraction(seed), slow = 0.5 + 4 * fraction(seed);
        for (int i = 0; i < CHOICE_RUNGS; i++) {
            double ratio = i == 0 ? 1 : 1 - shrinks * (0.5 + 0.05 * i), encode = i == 0 ? 0 : slow * exp(0.5 * i) / 2;
            t->rung[k][i] =
                (struct rung_time){ ratio * link, (0.5 + encode + ratio * 0.3) / cpus,
                                    (0.6 + (i > 0) * 0.8 + 0.2 * ratio) / 2, i == 0 || fraction(seed) < 0.8 };
        }
        parts += t->part[k] = fraction(seed) + 1e-4;
    }
    for (int k = 0; k < PAGE_KINDS; k++) {
        t->part[k] /= parts;
    }
}

static void nothing_simple_is_better(void **state) {
    (void)state;
    uint64_t seed = 9;
    for (unsigned n = 0; n < 300; n++) {
        struct settle_table t;
        struct settled s;
        invent(&seed, &t);
        settle_find(&t, &s);
        double best = best_of_all(&t);
        if (s.time > 1.03 * best) {
            fail_msg("%u: %g where %g was possible", n, s.time, best);
        }
        for (int k = 0; k < PAGE_KINDS; k++) {
            assert_true(t.rung[k][s.rung[0][k]].known && t.rung[k][s.rung[1][k]].known);
        }
        assert_true(s.second >= 0 && s.second < 1 && s.price > 0);
    }
}

/* Half of it is noise, which leaves the CPU to the rest: the rest gets what would not pay for all. */
static void noise_leaves_the_cpu(void **state) {
    (void)state;
    struct settle_table t = { .part = { [KIND_TEXT] = 0.5, [KIND_NOISE] = 0.5 }, .cpu_price = 0.05 };
    for (int k = 0; k < PAGE_KINDS; k++) {
        for (int i = 0; i < CHOICE_RUNGS; i++) {
            double ratio = k == KIND_NOISE || i == 0 ? 1 : i == 1 ? 0.5 : 0.4;
            t.rung[k][i] = (struct rung_time){ 8 * ratio, i == 0 ? 0 : i == 1 ? 4 : 7, 0.5, i < 3 };
        }
    }
    struct settled s;
    settle_find(&t, &s);
    assert_int_equal(s.rung[0][KIND_NOISE], 0);
    assert_int_equal(s.rung[0][KIND_TEXT], 2); /* alone: 7 beside 4, so the first */
    assert_true(fabs(s.second) < 1e-9);
    t.part[KIND_TEXT] = 1;
    t.part[KIND_NOISE] = 0;
    settle_find(&t, &s);
    assert_int_equal(s.rung[0][KIND_TEXT], s.second > 0 ? 2 : 1);
    assert_true(s.time < 4 + 0.05 * 4 + 1e-9);
}

/* One rung would leave the link idle and the other one the CPU: batches of both fill both. */
static void two_rungs_share(void **state) {
    (void)state;
    struct settle_table t = { .part = { [KIND_TEXT] = 1 }, .cpu_price = 0.05 };
    for (int k = 0; k < PAGE_KINDS; k++) {
        t.rung[k][0] = (struct rung_time){ 8, 1, 0.5, true };
        t.rung[k][1] = (struct rung_time){ 4, 9, 0.5, true };
    }
    struct settled s;
    settle_find(&t, &s);
    double first = s.rung[0][KIND_TEXT] == 1 ? 1 - s.second : s.second;
    assert_true(fabs(first - 7.0 / 12) < 1e-6);
    assert_true(fabs(s.time - (8 - 4 * 7.0 / 12) * 1.05) < 1e-6);
}

/* Raw is best at every price: what the CPUs' time is worth shows in who waits. */
static void the_price_is_that_of_the_narrow_side(void **state) {
    (void)state;
    struct settle_table t = { .part = { [KIND_TEXT] = 1 }, .cpu_price = 0.05 };
    struct settled s;
    for (int k = 0; k < PAGE_KINDS; k++) {
        t.rung[k][0] = (struct rung_time){ 1, 2, 0.5, true };
    }
    settle_find(&t, &s);
    assert_true(s.price > 10);
    for (int k = 0; k < PAGE_KINDS; k++) {
        t.rung[k][0].link = 4;
    }
    settle_find(&t, &s);
    assert_true(s.price < 0.1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_simple_is_better),
        cmocka_unit_test(noise_leaves_the_cpu),
        cmocka_unit_test(two_rungs_share),
        cmocka_unit_test(the_price_is_that_of_the_narrow_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
