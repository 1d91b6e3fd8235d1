/* SPDX-License-Identifier: Apache-2.0 */
/* What was done with the guest's pages; names as in QEMU's query-migrate. Written by the channels, read by anyone. */
#ifndef GODWIT_RAM_COUNTERS_H
#define GODWIT_RAM_COUNTERS_H

#include "codec/codec.h"

#include <stdatomic.h>
#include <stdint.h>

struct ram_counters {
    _Atomic uint64_t normal;    /* pages sent with their content */
    _Atomic uint64_t duplicate; /* pages found to be zero */
    _Atomic uint64_t unchanged; /* pages written with the content that was sent last */
    _Atomic uint64_t delta;     /* pages sent as the change from the version before */
    _Atomic uint64_t delta_bytes;
    _Atomic uint64_t resent;    /* pages that the destination found damaged by an accelerator */
    _Atomic uint64_t fallbacks; /* batches meant for an accelerator that software compressed */
    _Atomic uint64_t done;      /* pages of the running pass that are dealt with */
    struct codec_counters {
        _Atomic uint64_t batches, in, out; /* bytes before and after the codec */
    } codecs[CODEC_COUNT];
};

static inline void count(_Atomic uint64_t *counter, uint64_t n) {
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

#endif
