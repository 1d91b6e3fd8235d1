/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The throttle that costs the guest least and still ends.
 *
 * Let L be the bytes of memory that the link carries a second, w those that the guest writes when it runs freely, f the
 * share of its time that it gets, R what remains and R0 what may remain at the stop. Then R falls by L - w f a second,
 * and a guest that is held back loses (1 - f) of its work meanwhile:
 *
 *   lost = (R - R0) * (1 - f) / (L - w f)
 *
 * Its derivative by f has the sign of w - L, whatever R is. So where w < L not to throttle at all is best, passes
 * shrink by w / L each; and where w > L the least is at f = 0, (R - R0) / L: short and hard. A gentle throttle that
 * holds w f just below L is what costs most, without end. We keep w f at SHARE of L instead of 0, so that the guest
 * lives on as far as the link affords it: with f = SHARE * L / w
 *
 *   lost = (R - R0) / L * (1 - f) / (1 - SHARE) <= 1.18 * (R - R0) / L
 *
 * To which comes what the end of a pass costs: a stop is only made there, and what the last pass dirtied may need one
 * more, of SHARE times its length. Where max-cpu-throttle does not reach that f there is nothing better than the most.
 *
 * R is the set that the guest writes to, once pass 1 is over, and grows no more by waiting: the sooner the better. But
 * whether w > L is not read off passes. A pass that dirties all that the guest writes to says only that w is not less
 * than that; samples of some tens of ms show w itself. And a guest with w > L in 50 ms may dirty fewer different pages
 * than L carries in the time that matters, that of R0. So the guest is let run as long as a forecast made of the last
 * pass and the samples gets there in a few times what the throttle would need, and passes do shrink. Nor is it held
 * back for bursts when the lulls between them are long enough for all that it writes to.
 *
 * L is not known before pages have been sent again: what is sent a second time goes in full, and from then on as what
 * changed since, where that is less. The guest runs through pass 2 for that, whatever it writes: (R - R0) / L of the
 * time instead of its work, and often that is all that is needed. Only where completion-timeout leaves no time for it
 * is it held back before.
 *
 * Last, w above is what becomes dirty anew. While nearly all of the set waits to be sent that is little, and R falls by
 * itself although w > L: as long as it falls fast enough the guest is let run even then.
 */
#include "policy/converge_policy.h"

#include "base/clock.h"

#include <math.h>
#include <stddef.h>

#define SHARE 0.15 /* of the link, for what the guest writes while it is held back */
#define CALM 0.6   /* of the link: a guest that would write less when it ran freely is let go */

/* Samples. Longer ones count pages once that were written often: they only say that w is not less. */
#define SHORT_SAMPLE (250 * CLOCK_MS)
#define SMOOTH_S 0.1
#define WHOLLY 0.9 /* of a sample's time that its throttle must have been in force */

/* Hysteresis. */
#define HARDER 0.85 /* f is changed when it should be less than this part of what it is, */
#define SOFTER 1.5  /* or more, and then not at once */
#define SOFTER_AFTER (300 * CLOCK_MS)
#define CALM_FOR (100 * CLOCK_MS)
#define CALM_FOR_MOST (60 * CLOCK_S)
#define RELAPSE 4 /* times as long as the guest stayed calm that it must be calm the next time */
#define SOON (2 * CLOCK_S)
#define ALARM_FOR (100 * CLOCK_MS)
#define ALARM 1.5 /* times as fast as it was when it was let run */

/* When the guest is let run. */
#define LEARNING_PASSES 2            /* after which it is known what sending again costs */
#define FALLING 0.5                  /* of the link's rate: what remains falls fast enough by itself, */
#define FALLING_FOR (200 * CLOCK_MS) /* measured over so long */
#define PATIENCE 4.0                 /* times as long as it takes with the throttle, and */
#define PATIENCE_S 2.0               /* so much more */
#define FORECAST_PASSES 30           /* each at least the drain of disks and a scan */
#define LULL_USE 0.9                 /* of a lull's time is there to be used, */
#define LULL_PASSES 5                /* that do not shrink until one of them lies in it: waiting longer is no use */
#define SHRINKS 0.9                  /* of the pass before: more is no progress */

/* When holding it back is given up: it is not the guest's CPUs that write. */
#define FUTILE_PASSES 3
#define RETRY_AFTER (10 * CLOCK_S)
#define RETRY_MOST (160 * CLOCK_S)

static double lesser(double a, double b) {
    return a < b ? a : b;
}

static double greater(double a, double b) {
    return a > b ? a : b;
}

static double share_of(unsigned throttle) {
    return throttle < CONVERGE_MOST_THROTTLE ? (100 - throttle) / 100.0 : 0.01;
}

/*
 * Learns the free rate from a sample. One in which the throttle changed belongs to neither. Smoothed, since writes come
 * in lumps; but not for long, since bursts come and go.
 */
static bool take_sample(const struct converge_input *in, struct converge_rate_state *s) {
    if (!(in->dirty_rate >= 0) || !isfinite(in->dirty_rate) || in->dirty_interval <= 0) {
        return false;
    }
    if ((double)(in->now - s->changed_at) < WHOLLY * (double)in->dirty_interval) {
        return false;
    }
    double rate = in->dirty_rate / share_of(in->throttle), seconds = converge_seconds(in->dirty_interval);
    if (in->dirty_interval > SHORT_SAMPLE) {
        if (!s->known || rate > s->free_rate) {
            s->free_rate = rate;
            s->sample_s = seconds;
        }
    } else {
        double weight = s->known && s->sample_s <= converge_seconds(SHORT_SAMPLE) ? seconds / (seconds + SMOOTH_S) : 1;
        s->free_rate += (rate - s->free_rate) * weight;
        s->sample_s = seconds;
    }
    s->known = true;
    return true;
}

/*
 * Bytes that the guest dirties in t seconds when it runs freely. Each page counts once, so it grows slower than t:
 * known are a sample and the last pass, between them it goes as a power of t. For a set that is written evenly that is
 * less than the truth, for one that is written the less the colder it is it fits well. It is only asked for times
 * within.
 */
static double dirtied_in(const struct converge_rate_state *s, double t) {
    double short_s = s->sample_s, short_bytes = s->free_rate * s->sample_s;
    if (!s->known || short_s >= s->long_s) {
        return s->long_s > 0 ? s->long_bytes * t / s->long_s : s->free_rate * t;
    }
    if (t <= short_s || short_bytes <= 0) {
        return short_bytes > 0 ? s->free_rate * t : s->long_bytes * t / s->long_s;
    }
    double long_bytes = greater(s->long_bytes, short_bytes);
    if (t >= s->long_s) {
        return long_bytes * t / s->long_s;
    }
    double power = log(long_bytes / short_bytes) / log(s->long_s / short_s);
    return short_bytes * pow(t / short_s, power);
}

/* Seconds until the stop when the guest runs freely; INFINITY when passes come to shrink no more before. */
static double free_time(const struct converge_input *in, const struct converge_rate_state *s, double fits) {
    double rate = converge_link_rate(in), remaining = (double)in->remaining, time = 0;
    for (int i = 0; i < FORECAST_PASSES && remaining > fits; i++) {
        double pass = remaining / rate, next = dirtied_in(s, pass);
        time += pass;
        if (next > fits && next > remaining * SHRINKS) {
            return INFINITY;
        }
        remaining = next;
    }
    return remaining > fits ? INFINITY : time;
}

static bool may_run(const struct converge_config *config, const struct converge_input *in,
                    const struct converge_rate_state *s) {
    double rate = converge_link_rate(in), fits = converge_fits(config, in);
    if (rate <= 0) {
        return true;
    }
    double held = greater((double)in->remaining - fits, 0) / (rate * (1 - SHARE));
    double patience = held * PATIENCE + PATIENCE_S;
    if (config->completion_timeout > 0) {
        patience = lesser(patience, converge_seconds(config->completion_timeout - (in->now - in->started)));
    }
    return free_time(in, s, fits) <= patience;
}

/* Whether L is still to be learned, and there is time for it. */
static bool is_learning(const struct converge_config *config, const struct converge_input *in) {
    if (in->pass_ended ? in->pass >= LEARNING_PASSES : in->pass > LEARNING_PASSES) {
        return false;
    }
    double rate = converge_link_rate(in), left = converge_seconds(config->completion_timeout - (in->now - in->started));
    /* This pass, as much again while the guest is held back, and what comes between and behind. */
    return config->completion_timeout <= 0 || (rate > 0 && left > 3 * (double)in->remaining / rate + PATIENCE_S);
}

/* The share that lets the guest dirty SHARE of what the link carries. Rounded to whole percent of throttle, up. */
static unsigned throttle_for(const struct converge_config *config, const struct converge_input *in,
                             const struct converge_rate_state *s) {
    double aim = SHARE * converge_link_rate(in);
    double share = s->free_rate > aim ? aim / s->free_rate : 1;
    unsigned most = config->max < CONVERGE_MOST_THROTTLE ? config->max : CONVERGE_MOST_THROTTLE;
    double percent = ceil(100 * (1 - share) - 1e-9);
    return percent < most ? (unsigned)percent : most;
}

static void change(const struct converge_input *in, struct converge_rate_state *s, struct converge_advice *advice,
                   unsigned throttle, const char *reason) {
    if (throttle != advice->throttle) {
        s->changed_at = in->now;
    }
    advice->throttle = throttle;
    advice->reason = reason;
}

/*
 * The guest was let go for nothing when what it wrote until it was caught again takes the link longer than it was free.
 * Bursts with lulls between them do that, where the link is slow. And some guests only look calm while they are held
 * back: their writes stop sooner than in proportion, or hit what waits to be sent. Either must be calm for longer then.
 */
static void weigh_relapse(const struct converge_input *in, struct converge_rate_state *s) {
    int64_t was_free = in->now - s->released_at, needed = CALM_FOR;
    if (s->released_at > 0) {
        double sent = converge_link_rate(in) * converge_seconds(was_free);
        double grown = (double)in->remaining - (s->released_remaining - sent);
        if (grown > sent) {
            int64_t longer = was_free > s->calm_needed ? was_free : s->calm_needed;
            needed = longer < CALM_FOR_MOST / RELAPSE ? longer * RELAPSE : CALM_FOR_MOST;
        } else if (was_free < SOON) {
            needed = s->calm_needed * 2 < SOON ? s->calm_needed * 2 : SOON;
        }
    }
    s->calm_needed = needed > s->calm_needed ? needed : s->calm_needed;
}

static void hold(const struct converge_config *config, const struct converge_input *in, struct converge_rate_state *s,
                 struct converge_advice *advice, const char *reason) {
    weigh_relapse(in, s);
    s->due = NULL;
    s->holding = s->pass_held = true;
    s->calm = s->alarmed = false;
    s->futile = s->stalls = 0;
    change(in, s, advice, throttle_for(config, in, s), reason);
}

static void let_go(const struct converge_input *in, struct converge_rate_state *s, struct converge_advice *advice,
                   const char *reason) {
    s->holding = s->calm = s->alarmed = false;
    s->stalls = 0;
    s->released_at = in->now;
    s->released_remaining = (double)in->remaining;
    s->judged_rate = greater(s->free_rate, CALM * converge_link_rate(in));
    change(in, s, advice, 0, reason);
}

/* Whether `is` has been so since the first of several samples that span `long_enough`. */
static bool lasts(bool is, bool *was, int64_t *since, int64_t now, int64_t long_enough) {
    if (is && !*was) {
        *since = now;
    }
    *was = is;
    return is && now - *since >= long_enough;
}

/* While it is held back: let go when it calms down, else corrected by what the sample says. */
static void correct(const struct converge_config *config, const struct converge_input *in,
                    struct converge_rate_state *s, struct converge_advice *advice) {
    double now_free = in->dirty_rate / share_of(in->throttle);
    bool calm = now_free < CALM * converge_link_rate(in);
    if (lasts(calm, &s->calm, &s->calm_since, in->now, s->calm_needed)) {
        s->free_rate = now_free;
        let_go(in, s, advice, "the guest has calmed down");
        return;
    }
    if (calm) {
        return; /* the end of a burst, or a lull in it: seen soon, and no reason to go half way */
    }
    unsigned throttle = throttle_for(config, in, s);
    double part = share_of(throttle) / share_of(advice->throttle);
    if (part < HARDER && throttle > advice->throttle) {
        change(in, s, advice, throttle, "the guest writes more than the link can follow");
    } else if (part > SOFTER && in->now - s->changed_at >= SOFTER_AFTER) {
        change(in, s, advice, throttle, "the guest writes less than it may");
    }
}

/* While it runs: how long it was calm between two bursts, the last time. */
static void note_lull(const struct converge_input *in, struct converge_rate_state *s) {
    bool calm = in->dirty_rate < CALM * converge_link_rate(in);
    if (in->dirty_interval > SHORT_SAMPLE || calm == s->lulled) {
        return;
    }
    if (!calm && s->burst_seen) {
        s->lull_s = converge_seconds(in->now - s->lulled_since);
    }
    s->burst_seen |= !calm;
    s->lulled = calm;
    s->lulled_since = in->now;
}

/* Whether all that it writes to goes over within a lull: then the next one does, and nothing is lost by waiting. */
static bool lull_will_do(const struct converge_input *in, const struct converge_rate_state *s) {
    double most = greater((double)in->remaining, s->long_bytes);
    return s->stalls < LULL_PASSES && most < s->lull_s * LULL_USE * converge_link_rate(in);
}

/* While it runs, within a pass: held back when it writes clearly more than when it was let run, and too much. Not in
 * pass 1, which has to be made anyhow. */
static void watch(const struct converge_config *config, const struct converge_input *in, struct converge_rate_state *s,
                  struct converge_advice *advice) {
    bool alarm = in->pass > 1 && !is_learning(config, in) && !in->pass_ended && s->free_rate > ALARM * s->judged_rate &&
                 in->now >= s->retry_at && !lull_will_do(in, s) && !may_run(config, in, s);
    if (lasts(alarm, &s->alarmed, &s->alarmed_since, in->now, ALARM_FOR)) {
        hold(config, in, s, advice, "the guest writes more than before");
    }
}

/* The end of a pass in which the guest was held back: whether that helps. */
static void judge_hold(const struct converge_config *config, const struct converge_input *in,
                       struct converge_rate_state *s, struct converge_advice *advice, bool shrunk) {
    bool most = advice->throttle >= config->max || advice->throttle >= CONVERGE_MOST_THROTTLE;
    s->futile = shrunk || !most ? 0 : s->futile + 1;
    if (s->futile < FUTILE_PASSES) {
        return;
    }
    s->retry_after = s->retry_after == 0 ? RETRY_AFTER : s->retry_after < RETRY_MOST ? s->retry_after * 2 : RETRY_MOST;
    s->retry_at = in->now + s->retry_after;
    let_go(in, s, advice, "no throttle helps: it is not the guest's CPUs that write");
    advice->offer_force = true;
}

/* What is due waits while what remains falls fast enough by itself, and samples tell. */
static void put_off(const struct converge_config *config, const struct converge_input *in,
                    struct converge_rate_state *s, struct converge_advice *advice, const char *reason) {
    bool forgotten = s->due != NULL && in->now - s->due_since > 5 * FALLING_FOR; /* samples have ceased */
    if (!s->known || s->sample_s > converge_seconds(SHORT_SAMPLE) || forgotten) {
        hold(config, in, s, advice, reason);
        return;
    }
    s->due = reason;
    s->due_since = in->now;
    s->due_remaining = (double)in->remaining;
    advice->reason = "passes will not shrink enough, but what remains falls";
}

static void watch_due(const struct converge_config *config, const struct converge_input *in,
                      struct converge_rate_state *s, struct converge_advice *advice) {
    double seconds = converge_seconds(in->now - s->due_since);
    if (in->now - s->due_since < FALLING_FOR && !in->pass_ended) {
        return;
    }
    if (s->due_remaining - (double)in->remaining >= FALLING * converge_link_rate(in) * seconds) {
        s->due_since = in->now;
        s->due_remaining = (double)in->remaining;
    } else {
        hold(config, in, s, advice, s->due);
    }
}

/* The end of a pass in which it ran. One that does not shrink is bad luck, two are none. */
static void judge_free(const struct converge_config *config, const struct converge_input *in,
                       struct converge_rate_state *s, struct converge_advice *advice, bool shrunk) {
    s->stalls = shrunk ? 0 : s->stalls + 1;
    s->judged_rate = s->free_rate;
    if (in->now < s->retry_at || lull_will_do(in, s)) {
        return;
    }
    if (is_learning(config, in)) {
        advice->reason = "what sending again costs is still to be learned";
        return;
    }
    if (s->stalls >= 2) {
        put_off(config, in, s, advice, "passes do not shrink");
    } else if (!may_run(config, in, s)) {
        put_off(config, in, s, advice, "passes will not shrink enough");
    } else {
        s->due = NULL;
        advice->reason = "passes will do without";
    }
}

static void end_pass(const struct converge_config *config, const struct converge_input *in,
                     struct converge_rate_state *s, struct converge_advice *advice) {
    bool shrunk = s->before == 0 || (double)in->remaining < (double)s->before * SHRINKS;
    if (!s->pass_held && in->pass_time > 0) {
        s->long_s = converge_seconds(in->pass_time);
        s->long_bytes = (double)in->pass_dirtied;
    }
    s->before = in->remaining;
    if (s->holding) {
        judge_hold(config, in, s, advice, shrunk);
    } else {
        judge_free(config, in, s, advice, shrunk);
    }
    s->pass_held = s->holding;
}

void converge_rate(const struct converge_config *config, const struct converge_input *in, struct converge_rate_state *s,
                   struct converge_advice *advice) {
    if (advice->throttle == 0 && s->holding) { /* something common to all let it go */
        s->holding = false;
    }
    bool sampled = take_sample(in, s);
    if (sampled && s->holding) {
        correct(config, in, s, advice);
    } else if (sampled) {
        note_lull(in, s);
        if (s->due != NULL) {
            watch_due(config, in, s, advice);
        } else {
            watch(config, in, s, advice);
        }
    }
    if (in->pass_ended) {
        end_pass(config, in, s, advice);
    }
}
