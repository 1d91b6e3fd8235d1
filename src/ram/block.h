/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory as the engine sees it: files, in pages of 4 KiB, whatever page size the host backs them with.
 *
 * The engine reads guest memory with pread() and writes it with pwrite(), not through a mapping (docs/architecture.md
 * has the measurement): a read of a hole allocates nothing, a private copy cannot change under the codec or the digest,
 * writing a whole page needs neither a fault nor a cleared page, and nothing of the guest counts as our memory.
 * hugetlbfs has no write(): there, and only there, the destination maps the file.
 */
#ifndef GODWIT_RAM_BLOCK_H
#define GODWIT_RAM_BLOCK_H

#include "base/error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAM_PAGE_SIZE 4096u

struct page_digest;

struct ram_block {
    const char *id;          /* the VMM's name for it; not owned */
    uint64_t pages;          /* of RAM_PAGE_SIZE */
    uint64_t host_page_size; /* bytes; RAM_PAGE_SIZE, or that of hugetlbfs */
    int fd;                  /* not owned */

    /* Source. Owned by the main thread between passes, by the sending threads (each its own chunks) during one. */
    uint64_t *dirty;             /* bit per page: to be sent in the next pass */
    uint64_t *written;           /* bit per page: found by a scan, not yet in `dirty`; the main thread's at all times */
    uint64_t *sent;              /* bit per page: the destination holds something other than zeros there */
    struct page_digest *digests; /* of what was last sent (ram/digest.h) */
    uint64_t digested;           /* pages that have one: the first ones of the block */

    /* Destination. write() holds the file's lock in the kernel, and a second writer spins for it: ours sleeps, and the
     * CPU is the other channels' (a fifth of the receiver's CPU time on two cores). */
    pthread_mutex_t write_lock;

    uint64_t *rejected; /* bit per page: what came last was not placed, for an accelerator had spoiled it */

    /* Destination, hugetlbfs only; placed: bit per host page that is known to be backed. */
    uint8_t *map;
    uint64_t *placed;
};

struct ram {
    struct ram_block *blocks;
    uint16_t count;
    uint64_t *block_pages; /* pages of each block, as frame bounds want it */
};

/* Room for `count` blocks, all fields zero. */
int ram_init(struct ram *ram, size_t count, struct error *err);
/* Fills block `i` for the source (bitmaps) or the destination (mapping of a hugetlbfs file). */
int ram_open_source(struct ram *ram, size_t i, const char *id, uint64_t size, uint64_t host_page_size, int fd,
                    struct error *err);
int ram_open_destination(struct ram *ram, size_t i, const char *id, uint64_t size, uint64_t host_page_size, int fd,
                         struct error *err);
void ram_free(struct ram *ram);

uint64_t ram_pages(const struct ram *ram);
uint64_t ram_dirty_pages(const struct ram *ram);
/* Source, between passes: what was found written is dirty. Returns how many pages were. */
uint64_t ram_take_written(struct ram *ram);
/* Bytes of the host's memory that the files have allocated now. */
uint64_t ram_allocated(const struct ram *ram);

/* The next stretch of data at or after byte `from`. 1 with [*start, *end), 0 at the end of the file, -1 on error.
 * A file system without SEEK_DATA (hugetlbfs) answers that all is data, which is right, only slow. */
int ram_next_extent(const struct ram_block *b, uint64_t from, uint64_t *start, uint64_t *end, struct error *err);

/* Source, before the first pass: forgets dirty bits that lie in holes of the file. The destination's file is empty, so
 * a hole needs no word. Without SEEK_DATA (hugetlbfs) nothing is forgotten and zeros are found by reading. */
int ram_skip_holes(struct ram_block *b, struct error *err);

/* Destination, before the first pass: makes the file read as zeros everywhere. What another guest left in it is punched
 * out; pages that are zero already (preallocated ones) stay. */
int ram_make_empty(struct ram_block *b, struct error *err);

/* Destination: puts `count` whole pages in place, or makes them zero (a hole where the file can have one). */
int ram_place(struct ram_block *b, uint64_t first, uint64_t count, const uint8_t *data, struct error *err);
int ram_place_zero(struct ram_block *b, uint64_t first, uint64_t count, struct error *err);

/* Source: copies `count` pages out. */
int ram_read(const struct ram_block *b, uint64_t first, uint64_t count, uint8_t *out, struct error *err);

#endif
