/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The health of a device.
 *
 *              ┌────────── a job times out, connection lost, impossible answer ─────┐
 *              ▼                                                                    │
 *   WAITING ──time──► STARTING ──unit_ready──► READY ───────────────────────────────┘
 *      │  ▲               │
 *      │  └── no answer ──┘        from any state, after too many failures or blames: LOST
 */
#include "accel/internal.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WAIT (10 * CLOCK_S)

const char *accel_health_name(enum accel_health health) {
    static const char *const names[] = { "starting", "ready", "waiting", "lost" };
    return names[health];
}

void device_note(struct accel *a, const struct accel_device *d, const char *why) {
    struct accel_notice *n = a->config.changed != NULL ? calloc(1, sizeof(*n)) : NULL;
    if (n != NULL) {
        n->device = d->index;
        n->health = d->health;
        snprintf(n->why, sizeof(n->why), "%s", why);
        *a->notices_tail = n;
        a->notices_tail = &n->next;
    }
    pthread_cond_broadcast(&a->room);
    accel_wake(a);
}

int device_start(struct accel *a, struct accel_device *d, struct error *err) {
    struct accel_unit *u = unit_new(a, d, a->config.instances, a->slot_size);
    if (u == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory");
    }
    if (d->ops->start(u, d->path, err) != 0) {
        unit_free(u);
        return -1;
    }
    u->older = d->unit;
    d->unit = u;
    d->health = u->ready ? ACCEL_READY : ACCEL_STARTING;
    d->until = clock_now() + a->config.timeout_ns;
    return 0;
}

/* Nobody hears of this unit again; its memory stays. */
static void retire(struct accel *a, struct accel_device *d) {
    struct accel_unit *u = d->unit;
    if (u == NULL || u->retired) {
        return;
    }
    u->retired = true;
    d->ops->retire(u);
    for (unsigned i = 0; i < u->slots; i++) {
        if (u->slot[i].state == SLOT_IN_FLIGHT) {
            queue_end(a, &u->slot[i], ACCEL_RESET);
        }
    }
    d->counters.quarantined += u->output.size;
}

void device_lose(struct accel *a, struct accel_device *d, const char *why) {
    if (d->health != ACCEL_LOST) {
        retire(a, d);
        d->health = ACCEL_LOST;
        device_note(a, d, why);
    }
}

static int64_t next_wait(const struct accel *a, const struct accel_device *d) {
    int64_t wait = a->config.retry_ns;
    for (unsigned i = 1; i < d->failures && wait < MAX_WAIT; i++) {
        wait *= 2;
    }
    return wait < MAX_WAIT ? wait : MAX_WAIT;
}

void device_fail(struct accel *a, struct accel_device *d, const char *why) {
    if (d->health == ACCEL_LOST) {
        return;
    }
    bool was_ready = d->health == ACCEL_READY;
    d->failures++;
    d->failing = 0;
    d->counters.resets += was_ready;
    if (d->failures >= MAX_FAILURES || d->counters.resets >= MAX_RESETS) {
        device_lose(a, d, why);
        return;
    }
    retire(a, d);
    d->health = ACCEL_WAITING;
    d->until = clock_now() + next_wait(a, d);
    if (was_ready) {
        device_note(a, d, why); /* that one attempt more has failed is no news */
    }
}

/* The first job that waited too long takes the device with it; the others of the unit end with ACCEL_RESET. */
static int64_t check_deadlines(struct accel *a, struct accel_device *d, int64_t now) {
    struct accel_unit *u = d->unit;
    int64_t next = NEVER;
    unsigned late = 0;
    for (unsigned i = 0; i < u->slots; i++) {
        struct accel_slot *slot = &u->slot[i];
        if (slot->state != SLOT_IN_FLIGHT) {
            continue;
        }
        if (slot->deadline <= now) {
            queue_end(a, slot, ACCEL_TIMEOUT);
            late++;
        } else if (slot->deadline < next) {
            next = slot->deadline;
        }
    }
    if (late > 0) {
        char why[96];
        snprintf(why, sizeof(why), "no answer within %lld ms to %u jobs", (long long)(a->config.timeout_ns / CLOCK_MS),
                 late);
        device_fail(a, d, why);
        return d->health == ACCEL_WAITING ? d->until : NEVER;
    }
    return next;
}

static void try_again(struct accel *a, struct accel_device *d) {
    struct error err = { 0 };
    if (device_start(a, d, &err) != 0) {
        device_fail(a, d, err.desc);
    } else if (d->health == ACCEL_READY) {
        device_note(a, d, "it is back");
    }
}

int64_t device_timers(struct accel *a, struct accel_device *d, int64_t now) {
    if (d->health == ACCEL_READY) {
        return check_deadlines(a, d, now);
    }
    if (d->health == ACCEL_LOST) {
        return NEVER;
    }
    if (d->until <= now) {
        if (d->health == ACCEL_WAITING) {
            try_again(a, d);
        } else {
            device_fail(a, d, "it did not start");
        }
        return now; /* look again: this was another state */
    }
    return d->until;
}

void accel_blame(struct accel *a, unsigned device) {
    pthread_mutex_lock(&a->lock);
    if (device < a->devices) {
        struct accel_device *d = &a->device[device];
        if (++d->counters.blamed >= ACCEL_MAX_BLAMES) {
            device_lose(a, d, "what it made of batches was wrong too often");
        }
    }
    pthread_mutex_unlock(&a->lock);
}
