/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How hot the guest's memory is, by segments (row C7). What is written all the time is dirty again before it is of use
 * at the destination: it had better wait.
 *
 * A segment's heat is the number of pages that scans found written in it, the older the less. Scans come at any
 * interval, many within a pass or one, so that what was found ages by time and not by scans.
 *
 * Segments are made of whole chunks (ram/pass.h), the last one of a block may be smaller. The main thread's.
 */
#ifndef GODWIT_RAM_HEAT_H
#define GODWIT_RAM_HEAT_H

#include "base/error.h"
#include "ram/block.h"

#include <stdint.h>

struct heat_segment {
    uint64_t chunk; /* the first one, counted over all blocks */
    uint64_t first; /* page of the block */
    uint16_t block;
    uint32_t chunks, pages;
    uint32_t dirty; /* pages that are to be sent, at heat_count() */
    float found;    /* pages, aged */
};

struct heat {
    const struct ram *ram;
    uint64_t chunks; /* of the guest */
    uint64_t chunks_per_segment;
    size_t count;
    struct heat_segment *segments; /* in the order of their chunks */
    size_t *blocks;                /* the first segment of each block */
};

/* How much may wait. */
struct heat_limits {
    uint64_t chunks; /* in segments that wait */
    uint64_t dirty;  /* pages to be sent that wait */
};

/* `segment_size` in bytes is rounded up to whole chunks. */
int heat_open(struct heat *h, const struct ram *ram, uint64_t segment_size, struct error *err);
/* Closed or all zeros is allowed. */
void heat_close(struct heat *h);

/* A scan found pages [first, end) of a block written. */
void heat_note(struct heat *h, uint16_t block, uint64_t first, uint64_t end);
/* So many ns have gone by. */
void heat_age(struct heat *h, int64_t ns);

/* Between passes: counts what is dirty in each segment. Returns the sum. */
uint64_t heat_count(struct heat *h);
/* The hottest segments within the limits: sets their bits in `chunks` (a bit per chunk), and clears all others. Those
 * with a chunk in `passed` wait already: they are taken first, whatever the limits. A segment that is cold or clean is
 * never taken. Returns how many pages wait, as heat_count() has counted them. */
uint64_t heat_choose(const struct heat *h, const struct heat_limits *limits, const uint64_t *passed, uint64_t *chunks);

#endif
