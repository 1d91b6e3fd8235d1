/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to devices is told to device.c here, and what that asks for is done here. All calls of the back ends'
 * operations but takes() come from this file.
 */
#include "accel/internal.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void driver_wake(struct accel *a) {
    uint64_t one = 1;
    if (write(a->wake_fd, &one, sizeof(one)) < 0) {
        /* The counter is full: then the thread has been woken already. */
    }
}

/* ---- what device.c asks for ---- */

static void expire(struct accel *a, struct accel_device *d, int64_t now) {
    for (unsigned i = 0; i < d->unit->slots; i++) {
        struct accel_slot *slot = &d->unit->slot[i];
        if (slot->state == SLOT_IN_FLIGHT && slot->deadline <= now) {
            queue_end(a, d, slot, ACCEL_TIMEOUT);
        }
    }
}

static void end_all(struct accel *a, struct accel_device *d, enum accel_status status) {
    for (unsigned i = 0; d->unit != NULL && i < d->unit->slots; i++) {
        if (d->unit->slot[i].state == SLOT_IN_FLIGHT) {
            queue_end(a, d, &d->unit->slot[i], status);
        }
    }
}

/* Nobody hears of this unit again; its memory stays. */
static void retire(struct accel *a, struct accel_device *d) {
    d->unit->retired = true;
    d->ops->retire(d->unit);
    end_all(a, d, ACCEL_RESET);
    d->counters.quarantined += d->unit->output.size;
}

static void tell(struct accel *a, const struct accel_device *d, const char *why) {
    struct accel_notice *n = a->config.changed != NULL ? calloc(1, sizeof(*n)) : NULL;
    if (n != NULL) {
        n->device = d->index;
        n->health = d->state.health;
        snprintf(n->why, sizeof(n->why), "%s", why);
        *a->notices_tail = n;
        a->notices_tail = &n->next;
    }
    pthread_cond_broadcast(&a->room);
    driver_wake(a);
}

/* What a unit that is ready has granted is there to be read from then on, also while a later one starts. */
static void introduce(struct accel_device *d) {
    if (d->unit->ready) {
        d->counters.software = d->unit->software;
        d->counters.instances = d->unit->instances;
    }
}

/* Begins to start a new unit. The event that this makes: STARTED, or FAILED, whose `why` is err's. */
static struct device_event start(struct accel *a, struct accel_device *d, struct error *err) {
    struct accel_unit *u = unit_new(&a->ground);
    int rc = u != NULL ? d->ops->start(u, d->path, err) : error_set(err, ERROR_SYSTEM, "no memory");
    if (rc != 0) {
        if (u != NULL) {
            unit_free(u);
        }
        return (struct device_event){ .kind = DEVICE_FAILED, .now = clock_now(), .why = err->desc };
    }
    u->older = d->unit;
    d->unit = u;
    introduce(d);
    return (struct device_event){ .kind = DEVICE_STARTED, .now = clock_now(), .ready = u->ready };
}

/* ---- the machine ---- */

/* One event, and what it asks for but START. */
static struct device_actions turn(struct accel *a, struct accel_device *d, const struct device_event *e) {
    struct device_actions actions = device_step(&d->state, &a->times, e);
    if (actions.what & DEVICE_EXPIRE) {
        expire(a, d, e->now);
    }
    if (actions.what & DEVICE_RETIRE) {
        retire(a, d);
    }
    if (actions.what & DEVICE_CANCEL) {
        end_all(a, d, ACCEL_CLOSED);
    }
    if (actions.what & DEVICE_TELL) {
        tell(a, d, actions.why);
    }
    return actions;
}

/* Returns when a TICK is wanted, as far as this event is concerned. */
static int64_t step(struct accel *a, struct accel_device *d, struct device_event e) {
    struct device_actions actions = turn(a, d, &e);
    if (actions.what & DEVICE_START) {
        struct error err = { 0 };
        struct device_event next = start(a, d, &err);
        actions = turn(a, d, &next);
    }
    return actions.wake_at;
}

static void step_failed(struct accel *a, struct accel_device *d, const char *why) {
    step(a, d, (struct device_event){ .kind = DEVICE_FAILED, .now = clock_now(), .why = why });
}

/* ---- what happens ---- */

/* The unit's descriptor was readable, and all is in order or -1. */
static int reap(struct accel *a, struct accel_device *d, struct error *err) {
    int rc = d->ops->reap(d->unit, err);
    /* Those that came before something that must not be are answers nevertheless. */
    for (struct accel_slot *slot; (slot = unit_take_answered(d->unit)) != NULL;) {
        struct device_event e = { .kind = DEVICE_ANSWERED, .status = slot->status, .work = slot->work };
        queue_end(a, d, slot, slot->status);
        step(a, d, e);
    }
    if (rc != 0) {
        return -1;
    }
    introduce(d);
    step(a, d, (struct device_event){ .kind = DEVICE_HEARD, .now = clock_now(), .ready = d->unit->ready });
    return 0;
}

void driver_hear(struct accel *a, struct accel_device *d) {
    struct error err = { 0 };
    if (reap(a, d, &err) != 0) {
        step_failed(a, d, err.desc);
    }
}

int driver_open(struct accel *a, struct accel_device *d, struct error *err) {
    d->state = (struct device_state){ .health = ACCEL_WAITING };
    struct device_event e = start(a, d, err);
    if (e.kind == DEVICE_FAILED) {
        return -1;
    }
    step(a, d, e);
    while (d->state.health == ACCEL_STARTING) {
        int64_t left = d->state.until - clock_now();
        struct pollfd fd = { .fd = d->unit->fd, .events = POLLIN };
        if (left <= 0 || (poll(&fd, 1, (int)(left / CLOCK_MS) + 1) < 0 && errno != EINTR)) {
            return error_set(err, ERROR_SYSTEM, "it does not answer");
        }
        if (reap(a, d, err) != 0) {
            return -1;
        }
    }
    return 0;
}

int driver_submit(struct accel *a, struct accel_device *d, struct accel_slot *slot, struct accel_job *job) {
    struct error err = { 0 };
    queue_put(a, slot, job, clock_now() + a->times.timeout_ns);
    int rc = d->ops->submit(d->unit, slot, &err);
    if (rc != 1) {
        queue_take_back(slot);
        if (rc < 0) {
            step_failed(a, d, err.desc);
        }
        return rc;
    }
    queue_taken(a, d, slot);
    if (step(a, d, (struct device_event){ .kind = DEVICE_TAKEN, .due = slot->deadline }) < a->armed) {
        driver_wake(a);
    }
    return 1;
}

int64_t driver_tick(struct accel *a, struct accel_device *d, int64_t now) {
    struct device_event e = { .kind = DEVICE_TICK, .now = now, .due = NEVER };
    char why[96];
    unsigned late = d->state.health == ACCEL_READY ? unit_overdue(d->unit, now, &e.due) : 0;
    if (late > 0) {
        /* The first job that waited too long takes the device with it. */
        snprintf(why, sizeof(why), "no answer within %lld ms to %u jobs", (long long)(a->times.timeout_ns / CLOCK_MS),
                 late);
        e.kind = DEVICE_OVERDUE;
        e.why = why;
    }
    return step(a, d, e);
}

void driver_blame(struct accel *a, struct accel_device *d) {
    step(a, d, (struct device_event){ .kind = DEVICE_BLAMED });
}

void driver_close(struct accel *a, struct accel_device *d) {
    step(a, d, (struct device_event){ .kind = DEVICE_CLOSED });
}

bool driver_free(struct accel_device *d, int64_t until) {
    bool stopped = true;
    for (struct accel_unit *u = d->unit, *older; u != NULL; u = older) {
        older = u->older;
        if (!u->retired) {
            d->ops->retire(u);
        }
        if (d->ops->finish(u, until)) {
            unit_free(u);
        } else {
            stopped = false; /* leaked on purpose, with its memory */
        }
    }
    d->unit = NULL;
    return stopped;
}
