/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/offload.h"

#include "base/clock.h"

#include <stddef.h>

#define ROOM_PATIENCE (100 * CLOCK_MS)

static void settle(struct batch *b) {
    const struct accel_job *job = &b->job;
    bool shrunk = job->status == ACCEL_OK;
    b->refused = !shrunk && job->status != ACCEL_TOO_BIG;
    b->codec = shrunk ? (uint8_t)job->codec : CODEC_NONE;
    b->device = shrunk ? (uint8_t)(job->device + 1) : 0;
    b->payload = shrunk ? job->out : b->bytes;
    b->payload_size = (uint32_t)(shrunk ? job->out_size : batch_raw_size(b));
}

static void job_done(struct accel_job *job) {
    struct batch *b = (struct batch *)((char *)job - offsetof(struct batch, job));
    const struct offload *o = job->opaque;
    settle(b);
    if (!b->refused) {
        choice_device_done(o->choice, b->kind, batch_raw_size(b), b->payload_size, b->submitted, clock_now());
    }
    o->done(o->opaque, b);
}

bool offload_batch(const struct offload *o, struct batch *b) {
    bool must = atomic_load_explicit(&o->compression->codec, memory_order_relaxed) == COMPRESSION_ACCEL;
    b->job = (struct accel_job){
        .in = b->bytes,
        .size = batch_raw_size(b),
        .capacity = batch_encoded_capacity(b),
        .level = atomic_load_explicit(&o->compression->level[CODEC_DEFLATE], memory_order_relaxed),
        .done = job_done,
        .opaque = (void *)(uintptr_t)o,
    };
    b->submitted = clock_now();
    int rc;
    while ((rc = accel_submit(o->accel, &b->job)) == 0 && must && accel_wait_room(o->accel, ROOM_PATIENCE)) {
    }
    if (rc < 0 || (rc == 0 && must)) {
        count(&o->counters->fallbacks, 1);
    }
    return rc > 0;
}

void offload_release(const struct offload *o, struct batch *b) {
    if (b->device != 0) {
        accel_release(o->accel, &b->job);
        b->device = 0;
    }
}
