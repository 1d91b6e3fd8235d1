/* SPDX-License-Identifier: Apache-2.0 */
/* A frame that was read, checked, decoded and put in place. */
#ifndef GODWIT_RAM_PLACE_H
#define GODWIT_RAM_PLACE_H

#include "accel/accel.h"
#include "codec/codec.h"
#include "ram/block.h"
#include "ram/costs.h"
#include "ram/digest.h"
#include "wire/frame.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Accelerators that decode, shared by all threads. */
struct placer_devices {
    struct accel *accel; /* NULL: none */
    _Atomic bool urgent; /* not asked any more */
    _Atomic uint64_t fallbacks;
};

/* What one thread needs for it. */
struct placer {
    struct ram *ram;
    const struct digest_key *key;
    struct receive_costs *costs; /* shared by all threads */
    _Atomic uint64_t *rejected;  /* pages whose `rejected` bit is set, in all blocks; shared by all threads */
    void *decoders[CODEC_COUNT];
    struct placer_devices *devices;
    uint8_t *payload,
        *pages; /* pages_per_batch pages each; the payload in memory of the devices, where there are any */
    struct frame_run runs[FRAME_MAX_PAGES];
    struct page_digest digests[FRAME_MAX_PAGES];
};

int placer_init(struct placer *p, struct ram *ram, const struct digest_key *key, _Atomic uint64_t *rejected,
                struct receive_costs *costs, struct placer_devices *devices, uint32_t pages_per_batch,
                struct error *err);
void placer_free(struct placer *p);

/* Whether the payload of a frame has a size and a codec that can be; before it is read. */
int place_check(const struct frame *f, struct error *err);

/* Puts a frame in place whose runs and payload are in `p`. 0; 1 when it was rejected, because an accelerator has
 * spoiled it, or one that it builds upon: it was not placed, and its pages are marked so; -1 when it cannot be right.
 * Nothing is placed before the digest of all its pages was right. Two threads never place the same page at the same
 * time. */
int place_frame(struct placer *p, const struct frame *f, struct error *err);

#endif
