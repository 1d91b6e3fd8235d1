/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What leaves out of a VMM's device state the memory that the engine carries itself. The engine relays the device state
 * as bytes; who knows its format stands behind these ops (vmm_ops.filter).
 *
 * A filter belongs to the one thread that feeds it, but for its counts, which anybody may read. It does not touch the
 * VMM.
 */
#ifndef GODWIT_VMM_FILTER_H
#define GODWIT_VMM_FILTER_H

#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Which blocks the engine carries. The answer for one block must not change as long as the filter lives. */
struct vmm_carried {
    bool (*is_carried)(void *opaque, const char *block); /* by the VMM's own name of the block */
    void *opaque;
};

/* Where the filtered bytes go: all of `size`, or -1. */
struct vmm_sink {
    int (*take)(void *opaque, const uint8_t *data, size_t size, struct error *err);
    void *opaque;
};

struct vmm_filter_counts {
    _Atomic uint64_t in, out; /* bytes */
    _Atomic uint64_t pages;   /* left out */
    const char *_Atomic why;  /* since when everything passes: what it did not know; NULL: it knows all so far */
};

struct vmm_filter;

struct vmm_filter_ops {
    /* Takes the next `size` bytes, cut anywhere, and hands on what stays of them: nearly all of it before it returns,
     * and without a copy. -1: the sink failed, or what comes can neither be left out nor be let through. */
    int (*feed)(struct vmm_filter *f, const uint8_t *data, size_t size, const struct vmm_sink *sink, struct error *err);
    /* The end of the device state: hands on the few bytes that it still has. */
    int (*finish)(struct vmm_filter *f, const struct vmm_sink *sink, struct error *err);
    void (*close)(struct vmm_filter *f);
};

struct vmm_filter {
    const struct vmm_filter_ops *ops;
    struct vmm_filter_counts counts;
};

#endif
