/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs from the caller, and room for them. */
#include "accel/internal.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <time.h>

static bool can_be_taken(const struct accel *a, const struct accel_job *job) {
    if (job->work == ACCEL_DECOMPRESS && (job->codec != CODEC_DEFLATE || job->capacity > a->ground.max_job)) {
        return false;
    }
    uintptr_t base = (uintptr_t)a->ground.input.base, in = (uintptr_t)job->in;
    return job->size > 0 && job->size <= a->ground.max_job && job->capacity > 0 && in >= base &&
           in - base <= a->input_used && job->size <= a->input_used - (in - base);
}

int accel_submit(struct accel *a, struct accel_job *job) {
    job->slot = NULL;
    job->out = NULL;
    job->out_size = 0;
    LOCK_GUARD(&a->lock);
    if (a->closing || !can_be_taken(a, job)) {
        return -1;
    }
    struct accel_device *d;
    for (struct accel_slot *slot; (slot = queue_choose(a, job, &d)) != NULL;) {
        if (driver_submit(a, d, slot, job) == 1) {
            return 1;
        }
    }
    return queue_exists(a, job) ? 0 : -1;
}

static bool has_room(const struct accel *a, const struct accel_job *job) {
    struct accel_device *d;
    return queue_choose(a, job, &d) != NULL;
}

bool submit_wait_room(struct accel *a, const struct accel_job *job, int64_t until) {
    struct timespec t = { .tv_sec = until / CLOCK_S, .tv_nsec = until % CLOCK_S };
    LOCK_GUARD(&a->lock);
    while (!a->closing && queue_exists(a, job)) {
        if (has_room(a, job)) {
            return true;
        }
        if (pthread_cond_timedwait(&a->room, &a->lock, &t) == ETIMEDOUT) {
            return has_room(a, job);
        }
    }
    return false;
}

bool accel_wait_room(struct accel *a, int64_t timeout_ns) {
    return submit_wait_room(a, NULL, clock_now() + timeout_ns);
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
