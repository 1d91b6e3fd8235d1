/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over the guest's pages, handed out to the gathering threads in chunks.
 *
 * Chunks are handed out one by one, so that a slow thread takes fewer. A chunk begins and ends with whole words of the
 * page maps: no two threads ever write the same word at the same time.
 *
 * Some chunks may wait (ram/heat.h): they are not handed out in this pass. Nobody touches their pages, which stay dirty
 * and are in the next pass by that alone. The main thread says which, also while the pass runs; whether a chunk was
 * handed out or passed over is decided once, by the thread whose turn it is.
 */
#ifndef GODWIT_RAM_PASS_H
#define GODWIT_RAM_PASS_H

#include "ram/block.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PASS_CHUNK_PAGES 512u /* 2 MiB */

struct pass_chunk {
    struct ram_block *block;
    uint16_t index;      /* of the block */
    uint64_t first, end; /* pages */
};

struct pass {
    struct ram *ram;
    uint64_t chunks; /* in all blocks together */
    _Atomic uint64_t cursor;
    bool whole;                /* nothing waits; does not change while a pass runs */
    _Atomic uint64_t *waiting; /* bit per chunk: to wait, if it has not been handed out. The main thread's to write */
    _Atomic uint64_t *passed;  /* bit per chunk: was not handed out in this pass; the threads' to write */
};

int pass_init(struct pass *p, struct ram *ram, struct error *err);
/* All zeros, or what pass_init() could not fill, is allowed. */
void pass_destroy(struct pass *p);
/* Begins a pass; nobody gathers. `whole`: every dirty page goes, no chunk waits. */
void pass_begin(struct pass *p, bool whole);
/* Main thread, at any time: these chunks (a bit for each) are to wait, and no others. */
void pass_set_waiting(struct pass *p, const uint64_t *chunks);
/* Main thread: the chunks that were passed over in the running or last pass. Their dirty bits may be read. */
void pass_get_passed(const struct pass *p, uint64_t *chunks);
/* Main thread: pages that are marked as written, without those that are dirty in chunks that were passed over. */
uint64_t pass_fresh_pages(const struct pass *p);
/* False when there is none now. */
bool pass_next_chunk(struct pass *p, struct pass_chunk *chunk);
/* Whether there may be one: pass_next_chunk() has not come to the end. */
bool pass_has_chunk(struct pass *p);

#endif
