/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/device.h"

static const struct device_actions nothing = { .wake_at = NEVER };

const char *accel_health_name(enum accel_health health) {
    static const char *const names[] = { "starting", "ready", "waiting", "lost" };
    return names[health];
}

/* Whether it has a unit that is used, or will be. */
static bool is_live(const struct device_state *s) {
    return s->health == ACCEL_READY || s->health == ACCEL_STARTING;
}

static struct device_actions lose(struct device_state *s, const char *why) {
    if (s->health == ACCEL_LOST) {
        return nothing;
    }
    unsigned what = DEVICE_TELL | (is_live(s) ? DEVICE_RETIRE : 0);
    s->health = ACCEL_LOST;
    return (struct device_actions){ what, NEVER, why };
}

static int64_t next_wait(const struct device_state *s, const struct device_times *times) {
    int64_t wait = times->retry_ns;
    for (unsigned i = 1; i < s->failures && wait < DEVICE_MAX_WAIT; i++) {
        wait *= 2;
    }
    return wait < DEVICE_MAX_WAIT ? wait : DEVICE_MAX_WAIT;
}

/* It will be tried again, or is lost. That one attempt more has failed is no news. */
static struct device_actions fail(struct device_state *s, const struct device_times *times, int64_t now,
                                  const char *why) {
    if (s->health == ACCEL_LOST) {
        return nothing;
    }
    bool was_ready = s->health == ACCEL_READY;
    s->failures++;
    s->failing = 0;
    s->resets += was_ready;
    if (s->failures >= DEVICE_MAX_FAILURES || s->resets >= DEVICE_MAX_RESETS) {
        return lose(s, why);
    }
    unsigned what = (is_live(s) ? DEVICE_RETIRE : 0) | (was_ready ? DEVICE_TELL : 0);
    s->health = ACCEL_WAITING;
    s->until = now + next_wait(s, times);
    return (struct device_actions){ what, s->until, why };
}

static struct device_actions tick(struct device_state *s, const struct device_times *times,
                                  const struct device_event *e) {
    if (s->health == ACCEL_READY) {
        return (struct device_actions){ .wake_at = e->due };
    }
    if (s->health == ACCEL_LOST) {
        return nothing;
    }
    if (e->now < s->until) {
        return (struct device_actions){ .wake_at = s->until };
    }
    if (s->health == ACCEL_WAITING) {
        return (struct device_actions){ .what = DEVICE_START, .wake_at = NEVER };
    }
    return fail(s, times, e->now, "it did not start");
}

/* That it is ready for the first time is what accel_open() returns for. */
static struct device_actions become_ready(struct device_state *s) {
    s->health = ACCEL_READY;
    return (struct device_actions){ s->failures > 0 ? DEVICE_TELL : 0, NEVER, "it is back" };
}

static struct device_actions started(struct device_state *s, const struct device_times *times,
                                     const struct device_event *e) {
    if (s->health != ACCEL_WAITING) {
        return nothing;
    }
    if (e->ready) {
        return become_ready(s);
    }
    s->health = ACCEL_STARTING;
    s->until = e->now + times->timeout_ns;
    return (struct device_actions){ .wake_at = s->until };
}

static struct device_actions heard(struct device_state *s, const struct device_times *times,
                                   const struct device_event *e) {
    if (s->health == ACCEL_STARTING && e->ready) {
        return become_ready(s);
    }
    /* Answers came, but none of them is of any use: a reset may help. */
    if (s->health == ACCEL_READY && s->failing >= DEVICE_MAX_FAILED_IN_A_ROW) {
        return fail(s, times, e->now, "it fails every job");
    }
    return nothing;
}

static void answered(struct device_state *s, const struct device_event *e) {
    if (e->status == ACCEL_OK || e->status == ACCEL_TOO_BIG) {
        s->failures = 0;
        s->failing = 0;
    } else if (e->status == ACCEL_FAILED && e->work == ACCEL_COMPRESS) {
        s->failing++; /* of a decompression it is perhaps the payload's fault: see struct accel_job */
    }
}

static struct device_actions overdue(struct device_state *s, const struct device_times *times,
                                     const struct device_event *e) {
    if (s->health != ACCEL_READY) {
        return nothing;
    }
    struct device_actions actions = fail(s, times, e->now, e->why);
    actions.what |= DEVICE_EXPIRE;
    return actions;
}

static struct device_actions close_it(struct device_state *s) {
    unsigned what = s->health == ACCEL_LOST ? 0 : DEVICE_CANCEL;
    s->health = ACCEL_LOST;
    return (struct device_actions){ .what = what, .wake_at = NEVER };
}

struct device_actions device_step(struct device_state *s, const struct device_times *times,
                                  const struct device_event *e) {
    switch (e->kind) {
    case DEVICE_TICK:
        return tick(s, times, e);
    case DEVICE_STARTED:
        return started(s, times, e);
    case DEVICE_HEARD:
        return heard(s, times, e);
    case DEVICE_TAKEN:
        return (struct device_actions){ .wake_at = s->health == ACCEL_READY ? e->due : NEVER };
    case DEVICE_ANSWERED:
        if (s->health == ACCEL_READY) {
            answered(s, e);
        }
        return nothing;
    case DEVICE_OVERDUE:
        return overdue(s, times, e);
    case DEVICE_FAILED:
        return fail(s, times, e->now, e->why);
    case DEVICE_BLAMED:
        return ++s->blamed >= ACCEL_MAX_BLAMES ? lose(s, "what it made of batches was wrong too often") : nothing;
    case DEVICE_CLOSED:
        return close_it(s);
    }
    return nothing;
}
