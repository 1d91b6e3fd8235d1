/* SPDX-License-Identifier: Apache-2.0 */
#include "track/tracker.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "host/process.h"
#include "remote/remote.h"
#include "remote/uapi.h"
#include "track/kernel.h"
#include "track/tracker_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static int ended(const struct tracker *t, struct error *err) {
    return error_set(err, ERROR_VMM, "process %d ended", (int)t->pid);
}

int tracker_ioctl_error(const struct tracker *t, const char *what, struct error *err) {
    switch (errno) {
    case ESRCH:
        return ended(t, err);
    case ENOENT:
        return error_set(err, ERROR_VMM, "process %d removed memory that is being tracked (%s)", (int)t->pid, what);
    default:
        return error_errno(err, ERROR_SYSTEM, "%s on memory of process %d", what, (int)t->pid);
    }
}

uint64_t *tracker_all_written(const struct tracker_range *range, struct error *err) {
    uint64_t pages = (range->end - range->start) / range->page_size;
    uint64_t *map = calloc(bits_words(pages), sizeof(*map));
    if (map == NULL) {
        error_set(err, ERROR_SYSTEM, "out of memory");
        return NULL;
    }
    bits_set_range(map, 0, pages);
    return map;
}

static const struct tracker_ops *choose(enum tracker_kind kind, struct error *err) {
    if (kind == TRACKER_ASYNC) {
        return &tracker_async_ops;
    }
    if (kind == TRACKER_SYNC) {
        return &tracker_sync_ops;
    }
    struct kernel_features k;
    kernel_probe(&k);
    kind = kernel_tracker(&k);
    if (kind == TRACKER_AUTO) {
        error_set(err, ERROR_REFUSED,
                  "this kernel cannot track what a guest writes: Linux 5.19 or newer with CONFIG_USERFAULTFD is needed "
                  "(5.13 for memory that is private to its VMM), 6.7 for the fast way (see godwit probe)");
        return NULL;
    }
    return kind == TRACKER_ASYNC ? &tracker_async_ops : &tracker_sync_ops;
}

/* A kernel that does not know one of them grants none, and may be asked again. */
static bool ask_features(struct tracker *t, uint64_t features) {
    struct uffdio_api api = { .api = UFFD_API, .features = features };
    t->features = features;
    if ((features & t->ops->uffd_optional) != 0 && fault_planned("no-wp-shmem", NULL)) {
        errno = EINVAL;
        return false;
    }
    return ioctl(t->uffd, UFFDIO_API, &api) == 0;
}

static int open_uffd(struct tracker *t, const struct remote_witness *witness, struct error *err) {
    t->uffd = remote_userfaultfd(t->pid, O_CLOEXEC | O_NONBLOCK | t->ops->uffd_flags, &t->stopped_ns, witness, err);
    if (t->uffd < 0) {
        return -1;
    }
    if (ask_features(t, t->ops->uffd_features | t->ops->uffd_optional)) {
        return 0;
    }
    if (errno == EINVAL && ask_features(t, t->ops->uffd_features)) {
        return 0;
    }
    if (errno == EINVAL) {
        return error_set(err, ERROR_REFUSED, "this kernel has no %s tracker: Linux %s or newer is needed",
                         tracker_kind_name(t->ops->kind), t->ops->kernel);
    }
    return tracker_ioctl_error(t, "UFFDIO_API", err);
}

struct tracker *tracker_open(pid_t pid, enum tracker_kind kind, const struct remote_witness *witness,
                             struct error *err) {
    const struct tracker_ops *ops = choose(kind, err);
    if (ops == NULL) {
        return NULL;
    }
    struct tracker *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        error_set(err, ERROR_SYSTEM, "out of memory");
        return NULL;
    }
    *t = (struct tracker){ .ops = ops, .pid = pid, .pidfd = -1, .uffd = -1 };
    pthread_mutex_init(&t->lock, NULL);
    if (open_uffd(t, witness, err) < 0 || (t->pidfd = process_hold(pid, err)) < 0 || t->ops->open(t, err) < 0) {
        tracker_close(t);
        return NULL;
    }
    return t;
}

static int register_error(const struct tracker *t, const struct tracker_range *r, struct error *err) {
    error_clear(err);
    switch (errno) {
    case EBUSY:
        return error_set(err, ERROR_REFUSED,
                         "another userfaultfd is on the memory of process %d at %#" PRIx64 ": its own "
                         "postcopy or background-snapshot, or a second godwit",
                         (int)t->pid, r->start);
    case EINVAL:
    case EPERM:
        return error_errno(err, ERROR_REFUSED,
                           "the memory of process %d at %#" PRIx64
                           " cannot be write-protected: it is mapped read-only, "
                           "its pages are not of %" PRIu64 " bytes, or it is a file on a disk, which takes the async "
                           "tracker (Linux 6.7)",
                           (int)t->pid, r->start, r->page_size);
    default:
        return tracker_ioctl_error(t, "UFFDIO_REGISTER", err);
    }
}

static int register_range(const struct tracker *t, const struct tracker_range *r, struct error *err) {
    struct uffdio_register reg = { .range = { .start = r->start, .len = r->end - r->start },
                                   .mode = UFFDIO_REGISTER_MODE_WP };
    if (ioctl(t->uffd, UFFDIO_REGISTER, &reg) < 0) {
        return register_error(t, r, err);
    }
    if ((reg.ioctls & (UINT64_C(1) << _UFFDIO_WRITEPROTECT)) == 0) {
        ioctl(t->uffd, UFFDIO_UNREGISTER, &reg.range);
        return error_set(err, ERROR_REFUSED,
                         "this kernel cannot write-protect the kind of memory at %#" PRIx64
                         ": Linux %s or newer is needed",
                         r->start, t->ops->kernel);
    }
    return 0;
}

/* Of anonymous memory every kernel that has write-protection at all can do it. */
static bool needs_markers(const struct tracker_range *r) {
    return r->memory == TRACKER_SHARED || r->page_size != 4096;
}

int tracker_add(struct tracker *t, uint64_t start, uint64_t end, uint64_t page_size, enum tracker_memory memory,
                struct error *err) {
    if (page_size < 4096 || (page_size & (page_size - 1)) != 0 || start >= end || start % page_size != 0 ||
        end % page_size != 0) {
        return error_set(err, ERROR_REFUSED, "cannot track [%#" PRIx64 ", %#" PRIx64 ") in pages of %" PRIu64 " bytes",
                         start, end, page_size);
    }
    struct tracker_range range = { .start = start, .end = end, .page_size = page_size, .memory = memory };
    if (needs_markers(&range) && (t->features & UFFD_FEATURE_WP_HUGETLBFS_SHMEM) == 0) {
        return error_set(
            err, ERROR_REFUSED,
            "this kernel cannot write-protect shared memory and huge pages: Linux 5.19 or newer is needed");
    }
    LOCK_GUARD(&t->lock);
    struct tracker_range *larger = reallocarray(t->ranges, t->range_count + 1, sizeof(*larger));
    if (larger == NULL) {
        return error_set(err, ERROR_SYSTEM, "out of memory");
    }
    t->ranges = larger;
    if (t->ops->prepare(t, &range, err) < 0 || register_range(t, &range, err) < 0) {
        free(range.written);
        return -1;
    }
    t->ranges[t->range_count++] = range;
    return 0;
}

int tracker_scan(struct tracker *t, uint64_t start, uint64_t end, tracker_found_fn *found, void *opaque,
                 struct error *err) {
    /* the list changes in tracker_add() only, which the scanner's own thread calls */
    for (size_t i = 0; i < t->range_count; i++) {
        struct tracker_range *r = &t->ranges[i];
        if (start < r->start || start > end || end > r->end) {
            continue;
        }
        if ((start - r->start) % r->page_size != 0 || (end - r->start) % r->page_size != 0) {
            break;
        }
        int rc = t->ops->scan(t, r, start, end, found, opaque, err);
        /* Linux 7.2 finds nothing in the memory of a process that has ended, and calls that success */
        return rc == 0 && process_held_has_ended(t->pidfd) ? ended(t, err) : rc;
    }
    return error_set(err, ERROR_SYSTEM, "[%#" PRIx64 ", %#" PRIx64 ") is not tracked, or not whole pages", start, end);
}

enum tracker_kind tracker_kind(const struct tracker *t) {
    return t->ops->kind;
}

const char *tracker_kind_name(enum tracker_kind kind) {
    return kind == TRACKER_ASYNC ? "async" : kind == TRACKER_SYNC ? "sync" : "auto";
}

int64_t tracker_stopped_ns(const struct tracker *t) {
    return t->stopped_ns;
}

int tracker_check(struct tracker *t, struct error *err) {
    return t->ops->check(t, err);
}

void tracker_close(struct tracker *t) {
    if (t == NULL) {
        return;
    }
    t->ops->close(t);
    for (size_t i = 0; i < t->range_count; i++) {
        /* this unprotects the pages and wakes who waits. Closing the descriptor does it too, but a part of the range
         * that is gone would make this fail: so both */
        struct uffdio_range range = { .start = t->ranges[i].start, .len = t->ranges[i].end - t->ranges[i].start };
        ioctl(t->uffd, UFFDIO_UNREGISTER, &range);
        free(t->ranges[i].written);
    }
    free(t->ranges);
    if (t->uffd >= 0) {
        close(t->uffd);
    }
    if (t->pidfd >= 0) {
        close(t->pidfd);
    }
    pthread_mutex_destroy(&t->lock);
    free(t);
}
