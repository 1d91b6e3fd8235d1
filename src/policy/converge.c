/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all policies have in common. In this order: the operator's word, the stop, the timeouts; what is left is for the
 * policy to say.
 */
#include "policy/converge_policy.h"

#include "base/clock.h"

#include <stddef.h>

/* Below this a further pass saves less than it costs. */
#define SMALL_REMAINDER (5 * CLOCK_MS)
#define EXTRA_PASSES 4

/* What counts as progress: less than this part of the least so far, or so much less than the pass before, twice. */
#define PROGRESS 0.95
#define SHRINKS_WELL 0.9
/* Before so many passes have ended without any no policy had a chance. */
#define PROGRESS_PASSES 4

/*
 * The stop rule: what remains would take no longer than downtime-limit. As long as passes shrink fast a few more are
 * made although the limit is met: they cost little, and the guest's pause becomes that much shorter. Not while the
 * guest is held back though: it is because it writes faster than the link carries, and then a pass costs the guest more
 * work than the pause becomes shorter.
 */
static bool worth_another(const struct converge_input *in, struct converge_state *state, int64_t sending) {
    bool shrinks = !state->sending_known || sending < state->last_sending / 2;
    bool held = in->throttle > 0 || state->throttle > 0;
    return shrinks && sending > SMALL_REMAINDER && !held && state->extra_passes++ < EXTRA_PASSES;
}

static bool fits(const struct converge_config *config, const struct converge_input *in, int64_t downtime) {
    int64_t sending = downtime == INT64_MAX ? downtime : downtime - in->overhead;
    return sending <= converge_budget(config, in) && config->downtime_limit > 0;
}

/* `hurry`: no more than needed. */
static bool should_stop(const struct converge_config *config, const struct converge_input *in,
                        struct converge_state *state, int64_t downtime, bool hurry) {
    int64_t sending = downtime - (in->overhead > 0 ? in->overhead : 0);
    bool stop = fits(config, in, downtime) && (hurry || !worth_another(in, state, sending));
    state->last_sending = sending;
    state->sending_known = true;
    return stop;
}

static void note_progress(const struct converge_input *in, struct converge_state *state) {
    bool least = !state->least_known || (double)in->remaining < (double)state->least * PROGRESS;
    state->shrunk = (double)in->remaining < (double)state->previous * SHRINKS_WELL ? state->shrunk + 1 : 0;
    state->previous = in->remaining;
    state->since_least++;
    if (least) {
        state->least = in->remaining;
    }
    if (least || state->shrunk >= 2 || in->throttle > state->most) {
        state->least_known = true;
        state->least_at = in->now;
        state->since_least = 0;
    }
    state->most = in->throttle > state->most ? in->throttle : state->most;
}

/*
 * Why time is up; NULL when it is not. Progress is measured where a pass ends, so only there it can be missed: a pass
 * may well take longer than progress-timeout and leave less than ever, and pass 1 takes what it takes.
 */
static const char *time_is_up(const struct converge_config *config, const struct converge_input *in,
                              const struct converge_state *state) {
    if (config->completion_timeout > 0 && in->now - in->started >= config->completion_timeout) {
        return "completion-timeout is over";
    }
    if (config->progress_timeout > 0 && in->pass_ended && state->since_least >= PROGRESS_PASSES &&
        in->now - state->least_at >= config->progress_timeout) {
        return "progress-timeout is over";
    }
    return NULL;
}

static enum converge_action timeout_action(enum converge_timeout timeout) {
    switch (timeout) {
    case CONVERGE_TIMEOUT_ABORT:
        return CONVERGE_GIVE_UP;
    case CONVERGE_TIMEOUT_FORCE:
        return CONVERGE_FORCE;
    case CONVERGE_TIMEOUT_POSTCOPY:
        return CONVERGE_POSTCOPY;
    }
    return CONVERGE_GIVE_UP;
}

static void ask_policy(const struct converge_config *config, const struct converge_input *in,
                       struct converge_state *state, struct converge_advice *advice) {
    switch (config->policy) {
    case CONVERGE_NONE:
        *advice = (struct converge_advice){ .reason = "the guest is not to be held back" };
        break;
    case CONVERGE_STEPPED:
        converge_stepped(config, in, &state->stepped, advice);
        break;
    case CONVERGE_STAGED:
        converge_staged(in, &state->staged, advice);
        break;
    case CONVERGE_RATE:
        converge_rate(config, in, &state->rate, advice);
        break;
    }
}

static unsigned most_throttle(const struct converge_config *config) {
    return config->max < CONVERGE_MOST_THROTTLE ? config->max : CONVERGE_MOST_THROTTLE;
}

static void advise(const struct converge_config *config, const struct converge_input *in, struct converge_state *state,
                   struct converge_advice *advice) {
    *advice = (struct converge_advice){ state->throttle, false, "no change" };
    if (!in->can_throttle) {
        *advice = (struct converge_advice){ .reason = "the guest can't be held back" };
    } else {
        ask_policy(config, in, state, advice);
    }
    unsigned most = most_throttle(config);
    advice->throttle = advice->throttle < most ? advice->throttle : most;
}

/* A policy that was changed begins anew; progress and the stop are the migration's. */
static void follow_policy(const struct converge_config *config, struct converge_state *state) {
    if (config->policy != state->policy) {
        state->policy = config->policy;
        state->throttle = 0;
        state->stepped = (struct converge_stepped_state){ 0 };
        state->staged = (struct converge_staged_state){ 0 };
        state->rate = (struct converge_rate_state){ 0 };
        state->offered = false;
    }
}

/* The end of pre-copy, and why; false when it goes on. */
static bool decide_end(const struct converge_config *config, const struct converge_input *in,
                       struct converge_state *state, struct converge_decision *decision) {
    if (in->pass_ended && in->pass != state->noted) {
        note_progress(in, state);
        state->noted = in->pass;
    }
    const char *why = config->force ? "the switchover is forced" : time_is_up(config, in, state);
    if (in->pass_ended && should_stop(config, in, state, decision->downtime, why != NULL)) {
        decision->action = CONVERGE_STOP;
        decision->reason = "what remains fits into downtime-limit";
        return true;
    }
    if (why != NULL) {
        decision->action = config->force ? CONVERGE_FORCE : timeout_action(config->timeout_action);
        decision->reason = why;
    }
    return why != NULL;
}

/* The sample as policies see it: the end of a pass comes once. */
static struct converge_input once(const struct converge_input *in, struct converge_state *state) {
    struct converge_input copy = *in;
    copy.pass_ended = in->pass_ended && in->pass != state->counted;
    state->counted = in->pass_ended ? in->pass : state->counted;
    return copy;
}

void converge_step(const struct converge_config *config, const struct converge_input *in, struct converge_state *state,
                   struct converge_decision *decision) {
    follow_policy(config, state);
    *decision = (struct converge_decision){ .action = CONVERGE_GO_ON, .downtime = converge_downtime(in) };
    bool fitted = in->pass_ended && fits(config, in, decision->downtime);
    if (decide_end(config, in, state, decision)) { /* the throttle stays as it is, should the caller go on */
        decision->offer_force = state->offered;
        return;
    }
    struct converge_input sample = once(in, state);
    struct converge_advice advice;
    if (fitted) {
        advice = (struct converge_advice){ 0, false, "it fits, and passes shrink fast: one more" };
    } else {
        advise(config, &sample, state, &advice);
    }
    state->throttle = advice.throttle;
    state->offered |= advice.offer_force;
    decision->throttle = advice.throttle;
    decision->offer_force = state->offered;
    decision->reason = advice.reason;
}

const char *converge_action_name(enum converge_action action) {
    static const char *const names[] = { "go-on", "stop", "force", "postcopy", "give-up" };
    return names[action];
}

const char *converge_policy_name(enum converge_policy policy) {
    static const char *const names[] = { "none", "stepped", "staged", "rate" };
    return names[policy];
}

const char *converge_timeout_name(enum converge_timeout timeout) {
    static const char *const names[] = { "abort", "force", "postcopy" };
    return names[timeout];
}
