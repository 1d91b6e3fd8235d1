/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the pages of a block come from, and where they go.
 *
 * Everything above (passes, gathering, digests, the cache, codecs, placing) asks through this table and knows no file,
 * no mapping and no process. There are two kinds of files (backing_open_file()), and memory that is private to another
 * process (backing_open_memory()).
 *
 * What is asked for lies inside the backing: the caller has checked it. Offsets and sizes are bytes, multiples of
 * RAM_PAGE_SIZE. read, place and zero are called by many threads at the same time, never for the same page; all others
 * by one thread while nobody else is at work. Errors name the block.
 */
#ifndef GODWIT_RAM_BACKING_H
#define GODWIT_RAM_BACKING_H

#include "base/error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define RAM_PAGE_SIZE 4096u

struct backing;

struct backing_part {
    uint64_t at, size;
};
#define BACKING_PARTS 64u /* at most at once */

struct backing_ops {
    const char *name;

    /* Copies out. Allocates nothing where nothing is: a hole reads as zeros. Behind a look() what was not there then
     * may be read as it was then; so who looks does it behind each scan that protects, before what it found is read. */
    int (*read)(const struct backing *b, uint64_t at, uint64_t size, uint8_t *to, struct error *err);
    /* Sets in `populated`, a bit a small page, what may hold anything; bits of holes are left as they are. A kind that
     * cannot tell says that all of it may, which is right, only slow. Sets in `gone` what may read differently since
     * the last look though nobody wrote it: it was given back, or may have been. (Holes that held something are the
     * caller's to find: it knows what it has sent.) */
    int (*look)(struct backing *b, uint64_t *populated, uint64_t *gone, struct error *err);
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
    /* The same for several stretches at once, of which the pages lie one behind the other at `from`. NULL: this kind
     * has nothing quicker than one after the other. */
    int (*place_parts)(struct backing *b, const struct backing_part *parts, unsigned count, const uint8_t *from,
                       struct error *err);
    /* Makes whole pages zero: where memory was neither reserved nor preallocated it goes back to the host. */
    int (*zero)(struct backing *b, uint64_t at, uint64_t size, struct error *err);

    void (*close)(struct backing *b);
};

struct backing {
    const struct backing_ops *ops;
    const char *id;     /* of the block, for texts; not owned */
    uint64_t size;      /* bytes, a multiple of page_size */
    uint64_t page_size; /* of the host: RAM_PAGE_SIZE, or that of hugetlbfs */
    bool own;           /* the VMM's, which may write there at the destination too */
    bool silent;        /* watch() tells nothing: what was removed is to be looked for */
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
    const char *id;     /* must live as long as the backing */
    uint64_t size;      /* bytes */
    uint64_t page_size; /* RAM_PAGE_SIZE, or that of hugetlbfs */
    uint64_t address;   /* in the process, of the first byte */
    pid_t pid;          /* of the process */
    int fd;             /* its /proc/PID/mem, for reading, or for both; not owned, stays open until backing_close() */
    int origin; /* the file that is mapped there, from its beginning: what nobody has written is its; for reading, not
                   owned; -1: none, that is zeros */
    bool own;   /* as struct backing has it */
    const atomic_bool *pinned; /* while it is true `pid` is that process's and nobody else's, whatever becomes of it;
                                  NULL: that is not known. It becomes false only while nobody places anything. */
};

/* Memory of another process: what it has mapped there for itself, private and writable (whoever opens it has seen to
 * that). When the process has ended reading and placing fail, whoever has its id by then. The origin is taken for a
 * file that nobody changes: what a VMM runs on top of a file that others write is undefined. The caller closes it. NULL
 * on error. */
struct backing *backing_open_memory(const struct backing_memory *memory, struct error *err);
/* NULL is allowed. */
void backing_close(struct backing *b);

#endif
