/* SPDX-License-Identifier: Apache-2.0 */
/* Batches that go through an accelerator (accel/accel.h) instead of a codec of ours. */
#ifndef GODWIT_RAM_OFFLOAD_H
#define GODWIT_RAM_OFFLOAD_H

#include "accel/accel.h"
#include "ram/batch.h"
#include "ram/choice.h"
#include "ram/counters.h"

struct offload {
    struct accel *accel; /* NULL: there is none */
    struct choice *choice;
    const struct compression_settings *compression;
    struct ram_counters *counters;
    /* A batch comes back, with its payload settled or `refused` set. From a thread of accel's. */
    void (*done)(void *opaque, struct batch *b);
    void *opaque;
};

/* Gives a batch whose pages are in memory of accel_alloc() to a device. True: it will come back through done(), perhaps
 * before this returns. False: no accelerator can have it now, software has to. With compression=qat a full queue is
 * waited for; else the CPU helps out. */
bool offload_batch(const struct offload *o, struct batch *b);
/* What a batch had of a device is not needed any more. */
void offload_release(const struct offload *o, struct batch *b);

#endif
