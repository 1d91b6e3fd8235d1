/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Row C6. When the dirty amounts of two passes that follow each other differ by less than 5 %, the guest is held back:
 *
 *   direct   when what remains is less than 5 s of the mean transfer rate: 90 % for 3 s, then 99 % for 3 s, then staged
 *   staged   at the end of each pass, ratio = 1 - (mean bandwidth * 0.2) / (dirty rate * previous ratio)
 *
 * The formula says what it is for: dirtying shall fall to a fifth of what the link carries. We read "dirty rate" as
 * that of the guest when it runs freely, and "previous ratio" as the share of its time that it still gets, 1 before the
 * first throttle. Their product is the rate at which it dirties now, under the throttle in force: that is what a pass
 * measures, pass_dirtied / pass_time, and nothing has to be extrapolated. "ratio" is then the part of the present share
 * that must go as well:
 *
 *   share := share * (1 - ratio),   throttle = 1 - share
 *
 * Shares multiply and a ratio below 0 counts as 0, so that it gets ever stronger. It takes several passes while they
 * still dirty the whole hot set, which hides how fast the guest really writes.
 *
 * Read otherwise it does not work: with the throttle itself as "previous ratio" the first step divides by 0, and a
 * throttle set to "ratio" comes down again as soon as it has helped.
 *
 * "Above 99 % only for 3 s": the guest gets less than 10 % of its time for 3 s at most, once, whichever style wanted
 * it. Then the operator is offered a forced switchover, and until that is taken or a pass's remainder fits the guest
 * runs with 10 %. The other way, to hold on to 99 %, is a guest that stands still with nobody asked.
 */
#include "policy/converge_policy.h"

#include "base/clock.h"

#define SAME 0.05           /* dirty amounts that differ by less are the same */
#define DIRECT_S 5.0        /* of transfer that are few enough for direct */
#define PHASE (3 * CLOCK_S) /* of direct, and how long the guest may have less than LOW leaves it */
#define LOW 90u             /* percent */
#define AIM 0.2             /* of the bandwidth */

enum phase { WATCH, DIRECT_90, DIRECT_99, STAGED };

static void enter(struct converge_staged_state *s, enum phase phase, int64_t now) {
    s->phase = (int)phase;
    s->since = now;
}

/* Compares with the pass before. */
static bool stalls(const struct converge_input *in, struct converge_staged_state *s) {
    double before = (double)s->previous_dirty, dirty = (double)in->pass_dirtied;
    s->previous_dirty = in->pass_dirtied;
    double change = dirty > before ? dirty - before : before - dirty;
    return before > 0 && change < before * SAME;
}

static void strengthen(const struct converge_input *in, struct converge_staged_state *s) {
    double seconds = converge_seconds(in->pass_time), aim = converge_link_rate(in) * AIM;
    double rate = seconds > 0 ? (double)in->pass_dirtied / seconds : 0;
    if (aim > 0 && rate > aim) {
        s->share *= aim / rate; /* 1 - ratio */
    }
}

static void end_pass(const struct converge_input *in, struct converge_staged_state *s) {
    bool same = stalls(in, s);
    if (s->phase == WATCH && same) {
        s->share = 1;
        bool few = (double)in->remaining < converge_link_rate(in) * DIRECT_S;
        enter(s, few ? DIRECT_90 : STAGED, in->now);
    }
    if (s->phase == STAGED) {
        strengthen(in, s);
    }
}

static void pass_time(const struct converge_input *in, struct converge_staged_state *s) {
    if (s->phase == DIRECT_90 && in->now - s->since >= PHASE) {
        enter(s, DIRECT_99, in->now);
    } else if (s->phase == DIRECT_99 && in->now - s->since >= PHASE) {
        enter(s, STAGED, in->now);
        s->share = 1 - LOW / 100.0; /* that is where direct began */
    }
}

static unsigned wanted(const struct converge_staged_state *s) {
    switch ((enum phase)s->phase) {
    case WATCH:
        return 0;
    case DIRECT_90:
        return LOW;
    case DIRECT_99:
        return CONVERGE_MOST_THROTTLE;
    case STAGED:
        break;
    }
    /* up to the next percent; the little is for what 1 - 0.1 is in binary */
    unsigned throttle = (unsigned)(100 * (1 - s->share) + 0.999);
    return throttle < CONVERGE_MOST_THROTTLE ? throttle : CONVERGE_MOST_THROTTLE;
}

/* Ends what was below 10 % for 3 s; without samples within a pass that may be late. */
static void spare(int64_t now, struct converge_staged_state *s, struct converge_advice *advice) {
    bool low = advice->throttle > LOW;
    if (s->low && now - s->low_since >= PHASE) {
        s->low_spent = true;
    }
    if (low && !s->low) {
        s->low_since = now;
    }
    s->low = low && !s->low_spent;
    if (s->low_spent) {
        advice->throttle = low ? LOW : advice->throttle;
        advice->offer_force = true;
        advice->reason = "the guest had less than 10 % for 3 s: the switchover may be forced";
    }
}

void converge_staged(const struct converge_input *in, struct converge_staged_state *s, struct converge_advice *advice) {
    static const char *const reasons[] = { "passes shrink", "little remains: direct, 90 %",
                                           "little remains: direct, 99 %", "passes do not shrink: staged" };
    pass_time(in, s);
    if (in->pass_ended) {
        end_pass(in, s);
    }
    advice->throttle = wanted(s);
    advice->reason = reasons[s->phase];
    spare(in->now, s, advice);
}
