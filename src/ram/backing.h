/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the pages of a block come from, and where they go.
 *
 * Everything above (passes, gathering, digests, the cache, codecs, placing) asks through this table and knows no file,
 * no mapping and no process. There are two kinds of files (backing_open_file()), and memory of another process
 * (backing_open_memory()).
 *
 * What is asked for lies inside the backing: the caller has checked it. Offsets and sizes are bytes, multiples of
 * RAM_PAGE_SIZE. read, place and zero are called by many threads at the same time, never for the same page; all others
 * by one thread while nobody else is at work. Errors name the block.
 */
#ifndef GODWIT_RAM_BACKING_H
#define GODWIT_RAM_BACKING_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define RAM_PAGE_SIZE 4096u

struct backing;

struct backing_ops {
    const char *name;

    /* Copies out. Allocates nothing where nothing is: a hole reads as zeros. */
    int (*read)(const struct backing *b, uint64_t at, uint64_t size, uint8_t *to, struct error *err);
    /* The next stretch that may hold anything, at or after `from`: 1 with [*start, *end), 0 when there is none, -1 on
     * error. A kind that cannot tell says that all of it may, which is right, only slow. */
    int (*next_extent)(const struct backing *b, uint64_t from, uint64_t *start, uint64_t *end, struct error *err);
    /* Makes the inotify descriptor readable whenever pages are removed that no tracker reports. A kind whose removals
     * are seen by the tracker, or cannot be, adds nothing. */
    int (*watch)(const struct backing *b, int inotify, struct error *err);
    /* Bytes of the host's memory that it has now; 0 when that cannot be told. */
    uint64_t (*allocated)(const struct backing *b);

    /* The following only when it was opened to be written. */

    /* Makes it read as zeros everywhere. Memory that was reserved or preallocated stays so, and stays so for good:
     * zero() knows it too. What a sparse file holds of a guest before goes back to the host. */
    int (*make_empty)(struct backing *b, struct error *err);
    /* Puts whole pages in place. */
    int (*place)(struct backing *b, uint64_t at, uint64_t size, const uint8_t *from, struct error *err);
    /* Makes whole pages zero: where memory was neither reserved nor preallocated it goes back to the host. */
    int (*zero)(struct backing *b, uint64_t at, uint64_t size, struct error *err);

    void (*close)(struct backing *b);
};

struct backing {
    const struct backing_ops *ops;
    const char *id;     /* of the block, for texts; not owned */
    uint64_t size;      /* bytes, a multiple of page_size */
    uint64_t page_size; /* of the host: RAM_PAGE_SIZE, or that of hugetlbfs */
    bool own;           /* memory of a process, no file: not every tracker sees what is written there */
};

struct backing_file {
    const char *id; /* must live as long as the backing */
    uint64_t size;  /* bytes of guest memory, from the file's beginning; the file may be longer */
    uint64_t page_size;
    int fd; /* for reading, or for both; not owned, stays open until backing_close() */
    bool write;
};

/* A file of small pages (tmpfs, any disk file system), or of hugetlbfs. The caller closes it. NULL on error. */
struct backing *backing_open_file(const struct backing_file *file, struct error *err);

struct backing_memory {
    const char *id;   /* must live as long as the backing */
    uint64_t size;    /* bytes */
    uint64_t address; /* in the process, of the first byte */
    int fd;           /* /proc/PID/mem, for reading, or for both; not owned, stays open until backing_close() */
};

/* Memory of another process: what it has mapped there for itself, private and writable (whoever opens it has seen to
 * that). The descriptor stands for the memory and not for the process id: when the process has ended reading and
 * placing fail, whoever has its id by then. The caller closes it. NULL on error. */
struct backing *backing_open_memory(const struct backing_memory *memory, struct error *err);
/* NULL is allowed. */
void backing_close(struct backing *b);

#endif
