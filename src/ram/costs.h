/* SPDX-License-Identifier: Apache-2.0 */
/* What receiving costs, counted at the destination and told to the source, whose choice of codecs depends on it. */
#ifndef GODWIT_RAM_COSTS_H
#define GODWIT_RAM_COSTS_H

#include "codec/codec.h"

#include <stdatomic.h>
#include <stdint.h>

/* Time, ns, and the bytes that it was for; both only grow. */
struct cost {
    _Atomic uint64_t bytes, ns;
};

struct receive_costs {
    struct cost read;                /* bytes on the wire; CPU time, for the rest is waiting for the source */
    struct cost place;               /* bytes of guest memory: writing them; time by the clock */
    struct cost decode[CODEC_COUNT]; /* bytes of guest memory; time by the clock: a busy host takes longer */
};

/* The same as rates, as the source knows them. 0: not known. */
struct peer_load {
    double read_ns, place_ns, decode_ns[CODEC_COUNT]; /* for a byte */
    double threads;                                   /* that do so at the same time */
};

static inline void cost_add(struct cost *c, uint64_t bytes, int64_t ns) {
    atomic_fetch_add_explicit(&c->bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->ns, ns > 0 ? (uint64_t)ns : 0, memory_order_relaxed);
}

#endif
