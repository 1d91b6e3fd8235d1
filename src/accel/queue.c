/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs on their way: which queue gets one, and how it ends. */
#include "accel/internal.h"

/* Whether the device is there and for such jobs; NULL: any. */
static bool suits(const struct accel_device *d, const struct accel_job *job) {
    return d->state.health == ACCEL_READY && (job == NULL || d->ops->takes == NULL || d->ops->takes(d->unit, job));
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

/* Among equals the device after the one that had the last job. */
struct accel_slot *queue_choose(const struct accel *a, const struct accel_job *job, struct accel_device **device) {
    struct accel_slot *best = NULL;
    unsigned below = ACCEL_MAX_DEPTH;
    for (unsigned n = 1; n <= a->devices; n++) {
        struct accel_device *d = &a->device[(a->last + n) % a->devices];
        struct accel_unit *u = usable(d, job);
        struct accel_slot *slot = u != NULL ? least_loaded(u, below) : NULL;
        if (slot != NULL) {
            best = slot;
            below = u->in_flight[slot->instance];
            *device = d;
        }
    }
    return best;
}

bool queue_exists(const struct accel *a, const struct accel_job *job) {
    for (unsigned i = 0; i < a->devices; i++) {
        if (suits(&a->device[i], job)) {
            return true;
        }
    }
    return false;
}

void queue_put(const struct accel *a, struct accel_slot *slot, struct accel_job *job, int64_t deadline) {
    slot->state = SLOT_IN_FLIGHT;
    slot->serial++;
    slot->job = job;
    slot->work = job->work;
    slot->capacity = job->capacity < a->ground.max_job ? job->capacity : a->ground.max_job;
    slot->deadline = deadline;
}

void queue_taken(struct accel *a, struct accel_device *d, struct accel_slot *slot) {
    slot->job->slot = slot;
    slot->job->device = d->index;
    slot->unit->in_flight[slot->instance]++;
    d->counters.in_flight++;
    a->last = d->index;
}

void queue_take_back(struct accel_slot *slot) {
    slot->state = SLOT_FREE;
    slot->job = NULL;
    slot->unit->full = true;
}

static void count_done(struct accel_counters *c, const struct accel_job *job) {
    bool compressed = job->work == ACCEL_COMPRESS;
    *(compressed ? &c->batches : &c->decompressed.batches) += 1;
    *(compressed ? &c->in : &c->decompressed.in) += job->size;
    *(compressed ? &c->out : &c->decompressed.out) += job->out_size;
}

static void count(struct accel_counters *c, const struct accel_job *job) {
    c->in_flight--;
    switch (job->status) {
    case ACCEL_OK:
        count_done(c, job);
        break;
    case ACCEL_TOO_BIG:
        c->too_big++;
        break;
    case ACCEL_FAILED:
        c->failed++;
        break;
    case ACCEL_TIMEOUT:
        c->timeouts++;
        break;
    case ACCEL_RESET:
    case ACCEL_CLOSED:
        break;
    }
}

void queue_end(struct accel *a, struct accel_device *d, struct accel_slot *slot, enum accel_status status) {
    struct accel_job *job = slot->job;
    slot->job = NULL;
    slot->state = status == ACCEL_OK ? SLOT_HELD : SLOT_FREE;
    slot->unit->in_flight[slot->instance]--;
    slot->unit->full = false;
    job->status = status;
    if (status != ACCEL_OK) {
        job->slot = NULL;
    }
    count(&d->counters, job);
    job->next = NULL;
    *a->finished_tail = job;
    a->finished_tail = &job->next;
    pthread_cond_broadcast(&a->room);
}
