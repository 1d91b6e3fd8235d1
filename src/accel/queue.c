/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs on their way: which queue gets one, and how it ends. */
#include "accel/internal.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <time.h>

/* Whether the device is there and for such jobs; NULL: any. */
static bool suits(const struct accel_device *d, const struct accel_job *job) {
    return d->health == ACCEL_READY && (job == NULL || d->ops->takes == NULL || d->ops->takes(d->unit, job));
}

static struct accel_unit *usable(const struct accel_device *d, const struct accel_job *job) {
    return suits(d, job) && !d->unit->full ? d->unit : NULL;
}

static struct accel_slot *free_slot(struct accel_unit *u, unsigned instance) {
    unsigned each = u->slots / u->instances;
    for (unsigned i = instance * each; i < (instance + 1) * each; i++) {
        if (u->slot[i].state == SLOT_FREE) {
            return &u->slot[i];
        }
    }
    return NULL;
}

/* A free slot on the least loaded of a unit's queues that has fewer than `below` jobs. */
static struct accel_slot *least_loaded(struct accel_unit *u, unsigned below) {
    struct accel_slot *best = NULL;
    if (below > u->depth) {
        below = u->depth;
    }
    for (unsigned i = 0; i < u->instances; i++) {
        struct accel_slot *slot = u->in_flight[i] < below ? free_slot(u, i) : NULL;
        if (slot != NULL) {
            best = slot;
            below = u->in_flight[i];
        }
    }
    return best;
}

/* The slot on the least loaded queue of all; among equals the device after the one that had the last job. */
static struct accel_slot *choose(const struct accel *a, const struct accel_job *job) {
    struct accel_slot *best = NULL;
    unsigned below = ACCEL_MAX_DEPTH;
    for (unsigned n = 1; n <= a->devices; n++) {
        struct accel_unit *u = usable(&a->device[(a->last + n) % a->devices], job);
        struct accel_slot *slot = u != NULL ? least_loaded(u, below) : NULL;
        if (slot != NULL) {
            best = slot;
            below = u->in_flight[slot->instance];
        }
    }
    return best;
}

static bool any_suits(const struct accel *a, const struct accel_job *job) {
    for (unsigned i = 0; i < a->devices; i++) {
        if (suits(&a->device[i], job)) {
            return true;
        }
    }
    return false;
}

static bool can_be_taken(const struct accel *a, const struct accel_job *job) {
    if (job->work == ACCEL_DECOMPRESS && (job->codec != CODEC_DEFLATE || job->capacity > a->config.max_job)) {
        return false;
    }
    uintptr_t base = (uintptr_t)a->input.base, in = (uintptr_t)job->in;
    return job->size > 0 && job->size <= a->config.max_job && job->capacity > 0 && in >= base &&
           in - base <= a->input_used && job->size <= a->input_used - (in - base);
}

/* Hands the job to the device: as accel_submit(), but it is not asked again if it does not take it. */
static int hand_over(struct accel *a, struct accel_slot *slot, struct accel_job *job) {
    struct accel_unit *u = slot->unit;
    struct error err = { 0 };
    slot->state = SLOT_IN_FLIGHT;
    slot->serial++;
    slot->job = job;
    slot->work = job->work;
    slot->capacity = job->capacity < a->config.max_job ? job->capacity : a->config.max_job;
    slot->deadline = clock_now() + a->config.timeout_ns;
    int rc = u->device->ops->submit(u, slot, &err);
    if (rc != 1) {
        slot->state = SLOT_FREE;
        slot->job = NULL;
        u->full = true;
        if (rc < 0) {
            device_fail(a, u->device, err.desc);
        }
        return rc;
    }
    job->slot = slot;
    job->device = u->device->index;
    u->in_flight[slot->instance]++;
    u->device->counters.in_flight++;
    a->last = u->device->index;
    if (slot->deadline < a->armed) {
        accel_wake(a);
    }
    return 1;
}

int accel_submit(struct accel *a, struct accel_job *job) {
    job->slot = NULL;
    job->out = NULL;
    job->out_size = 0;
    LOCK_GUARD(&a->lock);
    if (a->closing || !can_be_taken(a, job)) {
        return -1;
    }
    for (struct accel_slot *slot; (slot = choose(a, job)) != NULL;) {
        if (hand_over(a, slot, job) == 1) {
            return 1;
        }
    }
    return any_suits(a, job) ? 0 : -1;
}

bool queue_wait_room(struct accel *a, const struct accel_job *job, int64_t until) {
    struct timespec t = { .tv_sec = until / CLOCK_S, .tv_nsec = until % CLOCK_S };
    LOCK_GUARD(&a->lock);
    while (!a->closing && any_suits(a, job)) {
        if (choose(a, job) != NULL) {
            return true;
        }
        if (pthread_cond_timedwait(&a->room, &a->lock, &t) == ETIMEDOUT) {
            return choose(a, job) != NULL;
        }
    }
    return false;
}

bool accel_wait_room(struct accel *a, int64_t timeout_ns) {
    return queue_wait_room(a, NULL, clock_now() + timeout_ns);
}

void accel_release(struct accel *a, struct accel_job *job) {
    LOCK_GUARD(&a->lock);
    struct accel_slot *slot = job->slot;
    if (slot != NULL && slot->state == SLOT_HELD) {
        slot->state = SLOT_FREE;
        pthread_cond_broadcast(&a->room);
    }
    job->slot = NULL;
}

static void count_done(struct accel_counters *c, const struct accel_job *job) {
    bool compressed = job->work == ACCEL_COMPRESS;
    *(compressed ? &c->batches : &c->decompressed.batches) += 1;
    *(compressed ? &c->in : &c->decompressed.in) += job->size;
    *(compressed ? &c->out : &c->decompressed.out) += job->out_size;
}

static void count(struct accel_device *d, const struct accel_job *job) {
    struct accel_counters *c = &d->counters;
    c->in_flight--;
    switch (job->status) {
    case ACCEL_OK:
        count_done(c, job);
        d->failures = 0;
        d->failing = 0;
        break;
    case ACCEL_TOO_BIG:
        c->too_big++;
        d->failures = 0;
        d->failing = 0;
        break;
    case ACCEL_FAILED:
        c->failed++;
        d->failing += job->work == ACCEL_COMPRESS; /* else perhaps the payload's fault: see struct accel_job */
        break;
    case ACCEL_TIMEOUT:
        c->timeouts++;
        break;
    case ACCEL_RESET:
    case ACCEL_CLOSED:
        break;
    }
}

void queue_end(struct accel *a, struct accel_slot *slot, enum accel_status status) {
    struct accel_job *job = slot->job;
    slot->job = NULL;
    slot->state = status == ACCEL_OK ? SLOT_HELD : SLOT_FREE;
    slot->unit->in_flight[slot->instance]--;
    slot->unit->full = false;
    job->status = status;
    if (status != ACCEL_OK) {
        job->slot = NULL;
    }
    count(slot->unit->device, job);
    job->next = NULL;
    *a->finished_tail = job;
    a->finished_tail = &job->next;
    pthread_cond_broadcast(&a->room);
}
