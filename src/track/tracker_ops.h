/* SPDX-License-Identifier: Apache-2.0 */
/* Between tracker.c and its back ends; for nobody else. */
#ifndef GODWIT_TRACK_TRACKER_OPS_H
#define GODWIT_TRACK_TRACKER_OPS_H

#include "track/tracker.h"

#include <pthread.h>
#include <stddef.h>

struct tracker_range {
    uint64_t start, end; /* addresses in the process */
    uint64_t page_size;
    enum tracker_memory memory;
    /* One bit a page: written and not yet reported. Starts all set. async: NULL where the kernel knows it all. */
    uint64_t *written;
};

struct tracker {
    const struct tracker_ops *ops;
    pid_t pid;
    int pidfd; /* both owned by tracker.c */
    int uffd;
    uint64_t features; /* that it has: what was asked for and this kernel knows */
    int64_t stopped_ns;
    void *state; /* the back end's own */

    /* Guards what follows. Held by the sync back end's thread while it serves faults and by its scanner for a slice at
     * a time; taken last, never around a callback. */
    pthread_mutex_t lock;
    struct tracker_range *ranges;
    size_t range_count;
};

/* One back end. All calls come from the caller's thread. */
struct tracker_ops {
    enum tracker_kind kind;
    int uffd_flags;         /* for userfaultfd(2), beyond O_CLOEXEC | O_NONBLOCK */
    uint64_t uffd_features; /* for UFFDIO_API */
    uint64_t uffd_optional; /* likewise, where the kernel has them */
    const char *kernel;     /* the Linux that has uffd_features */

    /* After the userfaultfd is there. May set t->state, which close() frees; close() is called even when open failed.
     */
    int (*open)(struct tracker *t, struct error *err);
    /* Called with t->lock held, before the range is registered and added; may allocate range->written, which tracker.c
     * frees. */
    int (*prepare)(struct tracker *t, struct tracker_range *range, struct error *err);
    /* [start, end) lies in `range` and is aligned. */
    int (*scan)(struct tracker *t, struct tracker_range *range, uint64_t start, uint64_t end, tracker_found_fn *found,
                void *opaque, struct error *err);
    int (*check)(struct tracker *t, struct error *err);
    /* Before the ranges are unregistered: no thread of the back end may run afterwards. */
    void (*close)(struct tracker *t);
};

extern const struct tracker_ops tracker_async_ops, tracker_sync_ops;

/* The ways in which a userfaultfd ioctl on the process fails, said for people. */
int tracker_ioctl_error(const struct tracker *t, const char *what, struct error *err);

/* A bitmap with a set bit for every page of the range. */
uint64_t *tracker_all_written(const struct tracker_range *range, struct error *err);

static inline uint64_t tracker_page(const struct tracker_range *range, uint64_t address) {
    return (address - range->start) / range->page_size;
}

static inline uint64_t tracker_address(const struct tracker_range *range, uint64_t page) {
    return range->start + page * range->page_size;
}

#endif
