/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan by which a guest writes its memory: a shape, a speed, and where each thread stands in it. All of it travels
 * in the device state, so that the load goes on at the destination exactly where it stopped.
 *
 *   idle      nothing
 *   uniform   any page of the hot part, all alike
 *   zipf      page i of n with i = n * u^skew, u uniform in 0..1: the lower the address, the hotter
 *   sweep     one page after the other, then again from the first
 *   burst     uniform for `on` seconds, nothing for `off` seconds
 *   grow      every page once, in order, then nothing
 */
#ifndef STUNT_LOAD_H
#define STUNT_LOAD_H

#include "base/error.h"
#include "blob.h"
#include "content.h"

#include <stdbool.h>
#include <stdint.h>

enum load_shape { LOAD_IDLE, LOAD_UNIFORM, LOAD_ZIPF, LOAD_SWEEP, LOAD_BURST, LOAD_GROW, LOAD_SHAPES };

struct load {
    enum load_shape shape;
    uint64_t rate;          /* bytes a second, a touched page counting 4096, all threads together; 0: no limit */
    uint64_t hot;           /* bytes that are written at all, all threads together; 0: the whole RAM */
    uint64_t write;         /* bytes written in a touched page: 8 or 4096 */
    bool same;              /* after the first time, write what is there already */
    uint64_t on_ns, off_ns; /* of a burst */
    uint64_t skew;          /* of zipf, 1..64 */
    uint64_t threads;       /* 0 until it is known: one for every CPU */
    uint64_t seed;
    struct content_mix mix; /* what 4096-byte writes look like */
};

/* Reads "SHAPE,key=value,…" over the defaults in `load`; the seed and the mix are left alone. */
int load_parse(struct load *load, const char *text, struct error *err);

void load_save(const struct load *load, struct blob *blob);
int load_restore(struct load *load, struct blob *blob, struct error *err);

/* One thread's place in the plan. */
struct plan {
    uint64_t random; /* state of its xorshift */
    uint64_t cursor; /* pages done, for sweep and grow */
    uint64_t run_ns; /* how long it ran, stops left out */
    uint64_t stamps; /* pages written in all */
};

void plan_begin(struct plan *plan, const struct load *load, unsigned thread);
/* The next page in [0, pages); false when there is nothing more to do, ever. */
bool plan_next(struct plan *plan, const struct load *load, uint64_t pages, uint64_t *page);

#endif
