/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over the guest's dirty pages, shared by the sending threads.
 *
 *   main thread   scan → drain → pass_start() ............ pass finished: event_fd is readable
 *   channel i     pass_wait() → pass_next_chunk()* → sends its PASS_END → pass_leave()
 *
 * Chunks are handed out one by one, so that a slow channel takes fewer. A chunk is whole words of the page maps: no two
 * threads ever write the same word, and the maps need no lock.
 */
#ifndef GODWIT_RAM_PASS_H
#define GODWIT_RAM_PASS_H

#include "base/error.h"
#include "ram/block.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PASS_CHUNK_PAGES 512u /* 2 MiB */

struct pass {
    struct ram *ram;
    unsigned threads;
    int event_fd;            /* readable when a pass is finished or a thread has failed */
    _Atomic uint64_t cursor; /* next chunk, counted over all blocks */

    pthread_mutex_t lock; /* owns what follows */
    pthread_cond_t changed;
    uint32_t number; /* of the running or last pass, from 1 */
    unsigned left;   /* threads that have left it */
    bool ending;     /* no further pass: the threads end */
    struct error failure;
};

struct pass_chunk {
    struct ram_block *block;
    uint16_t index;      /* of the block */
    uint64_t first, end; /* pages */
};

int pass_init(struct pass *p, struct ram *ram, unsigned threads, struct error *err);
void pass_destroy(struct pass *p);

/* Main thread. */
void pass_start(struct pass *p);
/* 1 when the pass is finished, 0 when not yet, -1 with the first failure of a thread. */
int pass_poll(struct pass *p, struct error *err);
void pass_end_threads(struct pass *p);

/* Sending threads. Waits for a pass after `last`; false when there will be none. */
bool pass_wait(struct pass *p, uint32_t last, uint32_t *number);
bool pass_next_chunk(struct pass *p, struct pass_chunk *chunk);
void pass_leave(struct pass *p);
void pass_fail(struct pass *p, const struct error *cause);

#endif
