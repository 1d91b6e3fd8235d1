/* SPDX-License-Identifier: Apache-2.0 */
#include "predict/outlook.h"

#include "base/clock.h"

#include <stdlib.h>

/* Where the trace begins matters for bursts; a link is never quite what it was said to be; and of the CPUs that are
 * idle now some will not be, for the guest pays for being tracked, and its writes for being sent. */
static const struct variant {
    double offset, link, cpus; /* parts of the trace, of the link's rate, of the CPUs */
} variants[] = { { 0, 1, 0.7 }, { 0.5, 1, 0.85 }, { 0.25, 0.92, 0.55 }, { 0.75, 1.05, 1 }, { 0.9, 0.95, 0.65 } };

#define VARIANTS (sizeof(variants) / sizeof(variants[0]))

/* Less work lost than this is no reason for one policy or against another. */
#define SAME_LOSS_S 0.2
#define MOST_DOWNTIME (60 * CLOCK_S)
#define MOST_LINK 64 /* times as fast */
/* What would help is looked for no longer: a large guest on a slow link takes its time to simulate. */
#define CURE_TIME (20 * CLOCK_S)

static int simulate_case(const struct outlook_question *q, enum converge_policy policy, const struct variant *v,
                         struct sim_result *result, struct error *err) {
    struct sim_guest guest = q->guest;
    struct sim_setting setting = q->setting;
    setting.converge.policy = policy;
    setting.wire_rate = q->wire_rate * v->link;
    setting.offset = (int64_t)((double)guest.trace->length * v->offset);
    q->price(&guest, setting.wire_rate, v->cpus, q->opaque);
    return simulate(&guest, &setting, result, err);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The middle one is the likely one: no case is more so than the others where a guest has bursts. */
static struct outlook_range range_of(double *values, size_t count) {
    qsort(values, count, sizeof(*values), compare);
    struct outlook_range range = { 0 };
    if (count > 0) {
        range = (struct outlook_range){ values[0], values[count / 2], values[count - 1] };
    }
    return range;
}

static double seconds(int64_t ns) {
    return (double)ns / 1e9;
}

enum figure { TOTAL, DOWNTIME, LOST, WIRE, REMAINING };

static double figure_of(const struct sim_result *r, enum figure figure) {
    switch (figure) {
    case TOTAL:
        return seconds(r->total);
    case DOWNTIME:
        return seconds(r->downtime);
    case LOST:
        return seconds(r->held + r->downtime);
    case WIRE:
        return r->wire;
    default:
        return r->remaining;
    }
}

/* Of the cases that end; of all of them when none does. */
static struct outlook_range spread(const struct sim_result *results, enum outlook_ends ends, enum figure figure) {
    double values[VARIANTS];
    size_t count = 0;
    for (size_t i = 0; i < VARIANTS; i++) {
        if (results[i].ends || ends == OUTLOOK_NO) {
            values[count++] = figure_of(&results[i], figure);
        }
    }
    return range_of(values, count);
}

static void sum_up(const struct sim_result *results, struct outlook_policy *p) {
    size_t ended = 0;
    *p = (struct outlook_policy){ .reason = results[0].reason };
    for (size_t i = 0; i < VARIANTS; i++) {
        ended += results[i].ends;
        p->forced |= results[i].forced;
        p->throttle = results[i].throttle > p->throttle ? results[i].throttle : p->throttle;
    }
    p->ends = ended == VARIANTS ? OUTLOOK_YES : ended > 0 ? OUTLOOK_PERHAPS : OUTLOOK_NO;
    p->total = spread(results, p->ends, TOTAL);
    p->downtime = spread(results, p->ends, DOWNTIME);
    p->lost = spread(results, p->ends, LOST);
    p->wire = spread(results, p->ends, WIRE);
    p->remaining = spread(results, p->ends, REMAINING);
}

/* A pause just within the limit, and nothing that would make it shorter: a little more work for the guest or the host,
 * and it never ends. Where the guest can be held back it ends all the same. */
#define NARROW 0.75 /* of downtime-limit */

static void doubt_narrow(const struct outlook_question *q, enum converge_policy policy, struct outlook_policy *p) {
    bool held = policy != CONVERGE_NONE && q->setting.can_throttle;
    if (p->ends == OUTLOOK_YES && !p->forced && !held &&
        p->downtime.most > NARROW * seconds(q->setting.converge.downtime_limit)) {
        p->ends = OUTLOOK_PERHAPS;
    }
}

/* In the order in which they are preferred when they cost the same. */
static const enum converge_policy preference[] = { CONVERGE_NONE, CONVERGE_RATE, CONVERGE_STAGED, CONVERGE_STEPPED };

/* The least work lost among those that end surely and need no force; then with force. */
static int recommend(const struct outlook *o) {
    int best = -1;
    for (int forced = 0; forced < 2 && best < 0; forced++) {
        for (size_t i = 0; i < OUTLOOK_POLICIES; i++) {
            const struct outlook_policy *p = &o->policies[preference[i]];
            if (p->ends == OUTLOOK_YES && p->forced == (forced > 0) &&
                (best < 0 || p->lost.likely < o->policies[best].lost.likely - SAME_LOSS_S)) {
                best = (int)preference[i];
            }
        }
    }
    return best;
}

static int would_end(const struct outlook_question *q, enum converge_policy policy, bool *ends, struct error *err) {
    *ends = true;
    for (size_t i = 0; i < VARIANTS && *ends; i++) {
        struct sim_result r;
        if (simulate_case(q, policy, &variants[i], &r, err) < 0) {
            return -1;
        }
        *ends = r.ends;
    }
    return 0;
}

/* Doubles one thing and then the other until it ends. */
static int find_cure(const struct outlook_question *q, struct outlook *o, struct error *err) {
    bool ends = false;
    int64_t until = clock_now() + CURE_TIME;
    o->helped = q->setting.can_throttle ? CONVERGE_RATE : CONVERGE_NONE;
    struct outlook_question other = *q;
    int64_t *limit = &other.setting.converge.downtime_limit;
    for (*limit = 2 * *limit; *limit > 0 && *limit <= MOST_DOWNTIME && clock_now() < until; *limit *= 2) {
        if (would_end(&other, o->helped, &ends, err) < 0) {
            return -1;
        }
        if (ends) {
            o->downtime_limit = *limit;
            break;
        }
    }
    other = *q;
    for (int times = 2; times <= MOST_LINK && clock_now() < until; times *= 2) {
        other.wire_rate = q->wire_rate * times;
        if (would_end(&other, o->helped, &ends, err) < 0) {
            return -1;
        }
        if (ends) {
            o->link = other.wire_rate;
            break;
        }
    }
    return 0;
}

int outlook_make(const struct outlook_question *q, struct outlook *o, struct error *err) {
    *o = (struct outlook){ .recommended = -1 };
    for (int policy = 0; policy < OUTLOOK_POLICIES; policy++) {
        struct sim_result results[VARIANTS];
        for (size_t i = 0; i < VARIANTS; i++) {
            if (simulate_case(q, (enum converge_policy)policy, &variants[i], &results[i], err) < 0) {
                return -1;
            }
        }
        sum_up(results, &o->policies[policy]);
        doubt_narrow(q, (enum converge_policy)policy, &o->policies[policy]);
    }
    o->recommended = recommend(o);
    return o->recommended < 0 ? find_cure(q, o, err) : 0;
}
