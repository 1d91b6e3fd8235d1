/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as the engine sees it: blocks of 4 KiB pages, whatever the host backs them with and wherever that is.
 *
 * The engine copies guest memory out and in (ram/backing.h), it does not look at it through a mapping
 * (docs/architecture.md has the measurement): a read of a hole allocates nothing, a private copy cannot change under
 * the codec or the digest, writing a whole page needs neither a fault nor a cleared page, and nothing of the guest
 * counts as our memory.
 */
#ifndef GODWIT_RAM_BLOCK_H
#define GODWIT_RAM_BLOCK_H

#include "base/error.h"
#include "ram/backing.h"
#include "wire/frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct page_digest;

struct ram_block {
    const char *id;          /* the VMM's name for it; not owned */
    uint64_t pages;          /* of RAM_PAGE_SIZE */
    struct backing *backing; /* what the functions below ask; owned */
    bool own;                /* the VMM may write there at the destination too: backing->own, or its stream has it */

    /* Source. Owned by the main thread between passes, by the sending threads (each its own chunks) during one. */
    uint64_t *dirty;             /* bit per page: to be sent in the next pass */
    uint64_t *written;           /* bit per page: found by a scan, not yet in `dirty`; the main thread's at all times */
    uint64_t *unsettled;         /* bit per page: found written since the last ram_settle(); the main thread's */
    uint64_t *sent;              /* bit per page: the destination holds something other than zeros there */
    struct page_digest *digests; /* of what was last sent (ram/digest.h) */
    uint64_t digested;           /* pages that have one: the first ones of the block */

    /* Destination. */
    uint64_t *rejected; /* bit per page: what came last was not placed, for an accelerator had spoiled it */
};

struct ram {
    struct ram_block *blocks;
    uint16_t count;
    uint64_t *block_pages; /* pages of each block, as frame bounds want it */
};

/* Room for `count` blocks, all fields zero. */
int ram_init(struct ram *ram, size_t count, struct error *err);
/* Fills block `i` with page maps for the source or the destination, all clear, and takes the backing, also when this
 * fails; NULL fails with what is in `err` already. */
int ram_open_source(struct ram *ram, size_t i, struct backing *backing, struct error *err);
int ram_open_destination(struct ram *ram, size_t i, struct backing *backing, struct error *err);
void ram_free(struct ram *ram);

uint64_t ram_pages(const struct ram *ram);
uint64_t ram_dirty_pages(const struct ram *ram);
/* Source, between passes: what was found written is dirty, and unsettled. Returns how many pages were. */
uint64_t ram_take_written(struct ram *ram);
/* Source, between passes. A page that a device writes by DMA may be found written before the device writes, so what was
 * copied of it counts only when block I/O was drained in between (docs/correctness.md). Unsettled pages that are not
 * dirty are those that were copied since, and are to be looked at again: how many they are; all unsettled pages made
 * dirty, and none unsettled (for who drains, or has stopped the guest, before they are copied); none unsettled, for who
 * has copied nothing yet. */
uint64_t ram_provisional_pages(const struct ram *ram);
void ram_settle(struct ram *ram);
void ram_forget_unsettled(struct ram *ram);
/* Source: whether every page can have a digest, so that one that is looked at again and is the same is not sent. */
bool ram_is_digested(const struct ram *ram);
/* Bytes of the host's memory that all blocks have now. */
uint64_t ram_allocated(const struct ram *ram);

/* Source, between passes: as backing_ops.look has it, in maps of the block's pages. */
int ram_look(struct ram_block *b, uint64_t *populated, uint64_t *gone, struct error *err);

/* Source, before the first pass: forgets dirty bits where there is nothing. The destination is empty, so a hole needs
 * no word. Where holes cannot be told (hugetlbfs) nothing is forgotten and zeros are found by reading. */
int ram_skip_holes(struct ram_block *b, struct error *err);

/* Destination, before the first pass: makes the block read as zeros everywhere, as backing_ops has it. */
int ram_make_empty(struct ram_block *b, struct error *err);

/* Destination: puts `count` whole pages in place, or those of `count` runs, one behind the other at `data`; or makes
 * them zero (a hole where memory was not promised). */
int ram_place(struct ram_block *b, uint64_t first, uint64_t count, const uint8_t *data, struct error *err);
int ram_place_runs(struct ram_block *b, const struct frame_run *runs, uint32_t count, const uint8_t *data,
                   struct error *err);
int ram_place_zero(struct ram_block *b, uint64_t first, uint64_t count, struct error *err);

/* Source: copies `count` pages out. */
int ram_read(const struct ram_block *b, uint64_t first, uint64_t count, uint8_t *out, struct error *err);

#endif
