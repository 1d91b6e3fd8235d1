/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over the guest's pages, handed out to the gathering threads in chunks.
 *
 * Chunks are handed out one by one, so that a slow thread takes fewer; one that was not finished is given back and goes
 * to whoever asks next. A chunk begins and ends with whole words of the page maps, or where another thread has left off
 * and handed on under the lock: no two threads ever write the same word at the same time.
 */
#ifndef GODWIT_RAM_PASS_H
#define GODWIT_RAM_PASS_H

#include "ram/block.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PASS_CHUNK_PAGES 512u /* 2 MiB */
#define PASS_MAX_RETURNED 64u /* no more threads than that gather at the same time */

struct pass_chunk {
    struct ram_block *block;
    uint16_t index;      /* of the block */
    uint64_t first, end; /* pages */
};

struct pass {
    struct ram *ram;
    uint64_t chunks; /* in all blocks together */
    _Atomic uint64_t cursor;
    pthread_mutex_t lock; /* owns what follows */
    _Atomic unsigned returned_count;
    struct pass_chunk returned[PASS_MAX_RETURNED];
};

void pass_init(struct pass *p, struct ram *ram);
void pass_destroy(struct pass *p);
/* Begins a pass; nobody gathers. */
void pass_begin(struct pass *p);
/* False when there is none now. */
bool pass_next_chunk(struct pass *p, struct pass_chunk *chunk);
/* What is left of a chunk, for somebody else. */
void pass_return_chunk(struct pass *p, const struct pass_chunk *chunk);
/* Whether pass_next_chunk() would find one now. */
bool pass_has_chunk(struct pass *p);

#endif
