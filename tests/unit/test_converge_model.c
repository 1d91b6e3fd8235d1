/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole migrations by each policy, in a model. With --table all of them are printed; --trace LINK GUEST POLICY MS
 * prints one as events, with a sample every MS (0: at the ends of passes), as those in traces/ were made.
 */
#include "guest_model.h"
#include "policy/converge_json.h"
#include "support.h"

#include <math.h>

#define MB 1e6
#define MIB 1048576.0
#define SAMPLE (50 * CLOCK_MS)
#define POLICIES 4

static const struct model_guest guests[] = {
    { "idle", MODEL_UNIFORM, 16 * MIB, 1 * MB },
    { "mild", MODEL_UNIFORM, 512 * MIB, 60 * MB },
    { "near", MODEL_UNIFORM, 512 * MIB, 150 * MB },
    { "uniform", MODEL_UNIFORM, 512 * MIB, 1500 * MB },
    { "zipf", MODEL_ZIPF, 1024 * MIB, 1000 * MB },
    { "sweep", MODEL_SWEEP, 1536 * MIB, 300 * MB },
    { "bursts", MODEL_UNIFORM, 512 * MIB, 1500 * MB, .on = 2, .off = 5 },
    { "lulls", MODEL_UNIFORM, 512 * MIB, 1500 * MB, .on = 3, .off = 3 },
    { "growing", MODEL_GROWING, 64 * MIB, 400 * MB, .growth = 20 * MB },
};
#define HARD 3

static const struct {
    const char *name;
    double rate; /* bytes/s */
} links[] = { { "1G", 125 * MB }, { "200M", 25 * MB }, { "10G", 1250 * MB } };

static struct model_config config_for(double link, const struct model_guest *guest, enum converge_policy policy) {
    return (struct model_config){
        .converge = { .policy = policy,
                      .trigger_threshold = 50,
                      .initial = 20,
                      .increment = 10,
                      .max = 99,
                      .downtime_limit = 300 * CLOCK_MS },
        .guest = *guest,
        .link = link,
        .ratio = 1,
        .sample = SAMPLE,
        .overhead = 30 * CLOCK_MS,
        .most = (policy == CONVERGE_NONE ? 600 : 2400) * CLOCK_S,
        .take_offer = true,
    };
}

static struct model_result run(double link, const struct model_guest *guest, enum converge_policy policy) {
    struct model_config config = config_for(link, guest, policy);
    return model_run(&config);
}

/* What it costs to send all that the hard guest writes to while it stands still, s. */
static double least_work(double link, const struct model_guest *guest) {
    return (guest->set - link * 0.27) / link;
}

static void the_hard_case(void **state) {
    (void)state;
    const struct model_guest *hard = &guests[HARD];
    struct model_result r[POLICIES];
    for (int p = 0; p < POLICIES; p++) {
        r[p] = run(links[0].rate, hard, (enum converge_policy)p);
    }
    assert_false(r[CONVERGE_NONE].ended);
    for (int p = CONVERGE_STEPPED; p < POLICIES; p++) {
        assert_true(r[p].ended);
        assert_true(r[p].action == CONVERGE_STOP || p == CONVERGE_STAGED);
    }
    assert_true(r[CONVERGE_STAGED].longest_low < 3.1);
    assert_true(r[CONVERGE_RATE].lost <= 0.5 * r[CONVERGE_STEPPED].lost);
    assert_true(r[CONVERGE_RATE].lost <= 1.3 * least_work(links[0].rate, hard));
    assert_true(r[CONVERGE_RATE].changes <= 4);
}

/* What the samples are like makes the rate policy better or worse, but not endless. */
static void hard_cases_with_worse_samples(void **state) {
    (void)state;
    for (int variant = 0; variant < 5; variant++) {
        struct model_config config = config_for(links[0].rate, &guests[HARD], CONVERGE_RATE);
        config.only_new = variant == 0;
        config.sample = variant == 1 ? 0 : variant == 2 ? 200 * CLOCK_MS : variant == 3 ? 20 * CLOCK_MS : SAMPLE;
        config.guest.reached_at = variant == 4 ? 0.7 : 0; /* 99 % leave 0.75 % (docs of the actuator) */
        struct model_result r = model_run(&config);
        assert_true(r.ended && r.action == CONVERGE_STOP);
        assert_true(r.lost <= (variant == 1 ? 2.5 : 1.3) * least_work(links[0].rate, &guests[HARD]));
        assert_true(r.changes <= 16);
    }
}

/* On compressible memory the link carries more of it. */
static void the_ratio_counts(void **state) {
    (void)state;
    struct model_result plain = run(250 * MB, &guests[HARD], CONVERGE_RATE);
    struct model_config config = config_for(250 * MB, &guests[HARD], CONVERGE_RATE);
    config.ratio = 0.5;
    struct model_result packed = model_run(&config);
    assert_true(fabs(plain.lost - packed.lost) < 1e-6 && fabs(plain.total - packed.total) < 1e-6);
}

/* The least of each that another policy has, if need be one this and another one that. */
static struct model_result best_of_others(double link, const struct model_guest *guest) {
    struct model_result best = { .total = INFINITY, .lost = INFINITY };
    for (int p = 0; p < CONVERGE_RATE; p++) {
        struct model_result r = run(link, guest, (enum converge_policy)p);
        if (r.ended) {
            best.total = fmin(best.total, r.total);
            best.lost = fmin(best.lost, r.lost);
        }
    }
    return best;
}

/* Half a second is nobody's loss. */
static void rate_is_near_the_best(void **state) {
    (void)state;
    for (size_t l = 0; l < COUNT(links); l++) {
        for (size_t g = 0; g < COUNT(guests); g++) {
            struct model_result best = best_of_others(links[l].rate, &guests[g]);
            struct model_result rate = run(links[l].rate, &guests[g], CONVERGE_RATE);
            assert_true(rate.ended && rate.action == CONVERGE_STOP && rate.downtime <= 0.3 + 1e-9);
            if (rate.total > best.total * 1.1 + 0.5 || rate.lost > best.lost * 1.1 + 0.5) {
                fail_msg("%s, %s: others take %.1f s and lose %.1f s of work, rate %.1f and %.1f", links[l].name,
                         guests[g].name, best.total, best.lost, rate.total, rate.lost);
            }
            assert_true(rate.changes <= 2 + rate.total / 4); /* it does not flap */
        }
    }
}

static void no_throttle_where_none_is_needed(void **state) {
    (void)state;
    static const char *const easy[] = { "idle", "mild" };
    for (size_t i = 0; i < COUNT(easy); i++) {
        struct model_result none = run(links[0].rate, &guests[i], CONVERGE_NONE);
        struct model_result rate = run(links[0].rate, &guests[i], CONVERGE_RATE);
        assert_string_equal(guests[i].name, easy[i]);
        assert_true(rate.most_throttle == 0 && fabs(none.total - rate.total) < 1e-6);
    }
}

/* What is sent a third time goes as what changed: the guest that took seconds takes as good as none then. */
static void changes_are_cheap(void **state) {
    (void)state;
    struct model_config config = config_for(2 * links[0].rate, &guests[HARD], CONVERGE_RATE);
    double full = model_run(&config).lost;
    config.changes = 5 * config.link;
    struct model_result r = model_run(&config);
    assert_true(r.ended && r.action == CONVERGE_STOP);
    assert_true(r.lost < 0.25 * full);
}

static void nothing_to_throttle_with(void **state) {
    (void)state;
    struct model_config config = config_for(links[0].rate, &guests[HARD], CONVERGE_RATE);
    config.cannot_throttle = true;
    config.most = 60 * CLOCK_S;
    struct model_result r = model_run(&config);
    assert_true(!r.ended && r.most_throttle == 0);
}

/* Devices write as much as the link carries, whatever the guest's CPUs get: no use to hold them back for ever. */
static void writes_that_no_throttle_reaches(void **state) {
    (void)state;
    struct model_config config = config_for(links[0].rate, &guests[HARD], CONVERGE_RATE);
    config.guest.unreached = 1000 * MB;
    config.take_offer = false;
    config.most = 300 * CLOCK_S;
    struct model_result r = model_run(&config);
    assert_false(r.ended);
    assert_true(r.lost < 0.5 * 300);
    config.take_offer = true;
    r = model_run(&config);
    assert_true(r.ended && r.action == CONVERGE_FORCE);
}

static int table(void) {
    printf("%-5s %-8s", "link", "guest");
    for (int p = 0; p < POLICIES; p++) {
        printf(" | %-8s total s   lost s  down s", converge_policy_name((enum converge_policy)p));
    }
    printf("\n");
    for (size_t l = 0; l < COUNT(links); l++) {
        for (size_t g = 0; g < COUNT(guests); g++) {
            printf("%-5s %-8s", links[l].name, guests[g].name);
            for (int p = 0; p < POLICIES; p++) {
                struct model_result r = run(links[l].rate, &guests[g], (enum converge_policy)p);
                const char *end = r.ended ? converge_action_name(r.action) : "no end";
                printf(" | %-8s %7.1f %8.2f %7.2f", end, r.total, r.lost, r.downtime);
            }
            printf("\n");
        }
    }
    return 0;
}

static int print_trace(char **words) {
    for (size_t l = 0; l < COUNT(links); l++) {
        for (size_t g = 0; g < COUNT(guests); g++) {
            for (int p = 0; p < POLICIES; p++) {
                if (strcmp(words[0], links[l].name) == 0 && strcmp(words[1], guests[g].name) == 0 &&
                    strcmp(words[2], converge_policy_name((enum converge_policy)p)) == 0) {
                    struct model_config config = config_for(links[l].rate, &guests[g], (enum converge_policy)p);
                    config.sample = strtol(words[3], NULL, 10) * CLOCK_MS;
                    config.trace = stdout;
                    model_run(&config);
                    return 0;
                }
            }
        }
    }
    return 1;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hard_case),
        cmocka_unit_test(hard_cases_with_worse_samples),
        cmocka_unit_test(the_ratio_counts),
        cmocka_unit_test(rate_is_near_the_best),
        cmocka_unit_test(no_throttle_where_none_is_needed),
        cmocka_unit_test(changes_are_cheap),
        cmocka_unit_test(nothing_to_throttle_with),
        cmocka_unit_test(writes_that_no_throttle_reaches),
    };
    if (argc == 2 && strcmp(argv[1], "--table") == 0) {
        return table();
    }
    if (argc == 6 && strcmp(argv[1], "--trace") == 0) {
        return print_trace(argv + 2);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
