/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The synchronous tracker, for kernels without WP_ASYNC. A write to a protected page stops the writer until a thread of
 * ours has noted the page and taken the protection away.
 *
 *   guest writes ─► fault, waits ─► message ─► [lock] bit set, unprotect (wakes) [unlock]
 *   scanner                                    [lock] bits taken, those pages protected [unlock] ─► callback
 *
 * Invariant, whenever the lock is free: a page whose bit is clear is protected. A page whose bit is set may be written
 * without a fault; the scan that takes the bit reports it after protecting it, so its content as of then is copied.
 * Both sides change bit and protection under the lock: else a scan between the two halves of a fault would take the
 * bit, and the page would end up unprotected with its bit lost.
 *
 * That a call has protected what it was given is not taken on trust. Before Linux 6.5 it passes in silence over a huge
 * page of tmpfs that another thread's fault maps anew between its splitting and its protecting (change_pmd_range() met
 * pmd_trans_unstable(), and went on). So the page table is asked, and what is unprotected keeps its bit.
 *
 * Private memory is another matter. What is not there cannot be protected (WP_UNPOPULATED is as young as WP_ASYNC), so
 * a page that is touched for the first time, or again after the process gave it back, comes without protection and
 * without a fault; and the kernel takes protection off a page that it merges (KSM). So there the page table is asked
 * before each scan: what is there and unprotected may have been written.
 *
 *   page table read ─► those pages, and those whose bit is set, protected where they are there ─► callback
 *
 * The invariant that holds at all times is: a page is protected only by a scan that reports it behind that. So what is
 * there and protected is as it was when it was last reported, and what is there and not protected is found by the next
 * scan. A page that comes, or goes and comes again, between the reading and the protecting was not found, so it is not
 * protected, and the next scan finds it; that is why runs are never joined over a gap here. One that is read as
 * unprotected, and is gone by then, is reported and is read as what it is. The bits add what was written, and given
 * back before the scan.
 *
 * A guest that waits on us must not wait on our failure: whatever goes wrong in the thread, it unregisters everything.
 * If the process dies the kernel does the same.
 */
#include "track/tracker_ops.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "host/pagemap.h"
#include "remote/uapi.h"
#include "track/touched.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Pages a slice: what is scanned under one hold of the lock while writers wait, some hundred µs. */
#define SLICE_PAGES TOUCHED_PAGES
/* A slice's longest list of runs: every other page. */
#define RUNS (SLICE_PAGES / 2)
/* Protecting a protected page again changes nothing and is cheap, a system call is not: runs this close share one. */
#define PROTECT_GAP 64
#define MESSAGES 64
#define HUGE_PAGE (UINT64_C(2) << 20)
/* How often the scanner lets a waiting fault go first: pthread mutexes are not fair. */
#define YIELDS 64

struct run {
    uint64_t from, to; /* pages of the range */
};

struct sync_state {
    pthread_t thread;
    bool running;       /* the thread was started; only the caller's thread looks */
    int stop;           /* eventfd: wakes the thread for its end; -1: none */
    atomic_bool faults; /* the thread wants the lock */
    struct run runs[RUNS];
    int pagemap;
    unsigned protects; /* counted for the fault protect-skips */
    struct touched touched;
    /* under tracker.lock */
    struct error failed; /* what ended the thread early */
};

/* Before Linux 6.4 a call must not reach over two mappings, which a VMM makes of one by a policy for a part of it;
 * where the border lies is found by halving. */
static int protect(const struct tracker *t, const struct tracker_range *r, uint64_t start, uint64_t length, bool on,
                   struct error *err) {
    struct uffdio_writeprotect wp = { .range = { .start = start, .len = length },
                                      .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0 };
    while (ioctl(t->uffd, UFFDIO_WRITEPROTECT, &wp) < 0) {
        if (errno == ENOENT && length > r->page_size) {
            uint64_t half = length / r->page_size / 2 * r->page_size;
            return protect(t, r, start, half, on, err) < 0 ? -1 : protect(t, r, start + half, length - half, on, err);
        }
        if (errno != EAGAIN && errno != EINTR) {
            return tracker_ioctl_error(t, "UFFDIO_WRITEPROTECT", err);
        }
    }
    return 0;
}

/* Lock held. */
static int serve_fault(struct tracker *t, const struct uffd_msg *message, struct error *err) {
    if (message->event != UFFD_EVENT_PAGEFAULT) {
        return 0;
    }
    uint64_t address = message->arg.pagefault.address;
    for (size_t i = 0; i < t->range_count; i++) {
        struct tracker_range *r = &t->ranges[i];
        if (address < r->start || address >= r->end) {
            continue;
        }
        uint64_t page = tracker_page(r, address);
        bits_set(r->written, page);
        return protect(t, r, tracker_address(r, page), r->page_size, false, err);
    }
    return error_set(err, ERROR_SYSTEM, "a page fault of process %d at %#" PRIx64 ", which is not tracked", (int)t->pid,
                     address);
}

/* Serves what is queued. */
static int serve_faults(struct tracker *t, struct error *err) {
    struct sync_state *state = t->state;
    struct uffd_msg messages[MESSAGES];
    ssize_t n = read(t->uffd, messages, sizeof(messages));
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : error_errno(err, ERROR_SYSTEM, "reading the userfaultfd");
    }
    atomic_store(&state->faults, true);
    LOCK_GUARD(&t->lock);
    atomic_store(&state->faults, false);
    for (size_t i = 0; i < (size_t)n / sizeof(messages[0]); i++) {
        if (serve_fault(t, &messages[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void fail(struct tracker *t, const struct error *err) {
    struct sync_state *state = t->state;
    LOCK_GUARD(&t->lock);
    state->failed = *err;
    for (size_t i = 0; i < t->range_count; i++) {
        struct uffdio_range range = { .start = t->ranges[i].start, .len = t->ranges[i].end - t->ranges[i].start };
        ioctl(t->uffd, UFFDIO_UNREGISTER, &range);
    }
}

static void *serve(void *opaque) {
    struct tracker *t = opaque;
    const struct sync_state *state = t->state;
    struct pollfd fds[] = { { .fd = t->uffd, .events = POLLIN }, { .fd = state->stop, .events = POLLIN } };
    struct error err = { 0 };
    pthread_setname_np(pthread_self(), "godwit-wp");
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            error_errno(&err, ERROR_SYSTEM, "poll on the userfaultfd");
            break;
        }
        if (fds[1].revents != 0) {
            return NULL;
        }
        if ((fds[0].revents & POLLERR) != 0) {
            error_set(&err, ERROR_SYSTEM, "the userfaultfd reports an error");
            break;
        }
        if (fds[0].revents != 0 && serve_faults(t, &err) < 0) {
            break;
        }
    }
    fail(t, &err);
    return NULL;
}

static int sync_open(struct tracker *t, struct error *err) {
    struct sync_state *state = calloc(1, sizeof(*state));
    if (state == NULL) {
        return error_set(err, ERROR_SYSTEM, "out of memory");
    }
    t->state = state;
    state->pagemap = -1;
    state->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (state->stop < 0) {
        return error_errno(err, ERROR_SYSTEM, "eventfd");
    }
    state->pagemap = pagemap_open(t->pid, err);
    if (state->pagemap < 0) {
        return -1;
    }
    /* the guest waits on this thread: no signal handler shall run on it */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    errno = pthread_create(&state->thread, NULL, serve, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (errno != 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot start a thread");
    }
    state->running = true;
    return 0;
}

static int sync_check_locked(const struct sync_state *state, struct error *err) {
    return error_is_set(&state->failed) ? error_set(err, state->failed.class, "%s", state->failed.desc) : 0;
}

static int sync_prepare(struct tracker *t, struct tracker_range *range, struct error *err) {
    if (sync_check_locked(t->state, err) < 0) {
        return -1; /* nobody would serve its faults */
    }
    range->written = tracker_all_written(range, err);
    return range->written != NULL ? 0 : -1;
}

static int protect_pages(struct tracker *t, const struct tracker_range *range, uint64_t from, uint64_t to,
                         struct error *err) {
    return protect(t, range, tracker_address(range, from), (to - from) * range->page_size, true, err);
}

/* Of [from, to), which was to be protected: what is not has its bit set again. A huge page was passed over whole or not
 * at all, so one entry speaks for the pages of one. */
static int keep_unprotected(struct tracker *t, const struct tracker_range *range, uint64_t from, uint64_t to,
                            struct error *err) {
    const struct sync_state *state = t->state;
    for (uint64_t at = from, end; at < to; at = end) {
        uint64_t entry, border = (tracker_address(range, at) / HUGE_PAGE + 1) * HUGE_PAGE;
        end = tracker_page(range, border) < to ? tracker_page(range, border) : to;
        if (pagemap_read(state->pagemap, tracker_address(range, at), 1, &entry, err) < 0) {
            return -1;
        }
        if ((entry & PAGEMAP_UFFD_WP) == 0) {
            bits_set_range(range->written, at, end);
        }
    }
    return 0;
}

/* Protects [from, to) and takes its bits. Lock held. */
static int take_span(struct tracker *t, struct tracker_range *range, uint64_t from, uint64_t to, struct error *err) {
    struct sync_state *state = t->state;
    int64_t skips = fault_value("protect-skips", NULL, 0);
    if ((skips == 0 || ++state->protects % skips != 0) && protect_pages(t, range, from, to, err) < 0) {
        return -1;
    }
    bits_clear_range(range->written, from, to);
    return range->page_size == PAGEMAP_PAGE ? keep_unprotected(t, range, from, to, err) : 0;
}

/* Takes the bits of [from, to), at most SLICE_PAGES, and protects those pages. Lock held. Returns the number of runs.
 */
static int64_t take_slice(struct tracker *t, struct tracker_range *range, uint64_t from, uint64_t to,
                          struct error *err) {
    struct run *runs = ((struct sync_state *)t->state)->runs;
    int64_t n = 0;
    struct run span = { 0 }; /* what the next protect() covers */
    for (uint64_t at = bits_next_set(range->written, from, to); at < to;) {
        uint64_t end = bits_next_clear(range->written, at, to);
        runs[n++] = (struct run){ at, end };
        if (span.to != 0 && at - span.to > PROTECT_GAP) {
            if (take_span(t, range, span.from, span.to, err) < 0) {
                return -1;
            }
            span.to = 0;
        }
        span = (struct run){ span.to != 0 ? span.from : at, end };
        at = bits_next_set(range->written, end, to);
    }
    return span.to != 0 && take_span(t, range, span.from, span.to, err) < 0 ? -1 : n;
}

/* The same of private memory, as state->touched has it from `from` on. Lock held. */
static int64_t take_private(struct tracker *t, struct tracker_range *range, uint64_t from, uint64_t to,
                            struct error *err) {
    struct sync_state *state = t->state;
    const struct touched *touched = &state->touched;
    int64_t n = 0;
    uint64_t end, stop, pages = to - from;
    for (uint64_t at = bits_next_set(touched->open, 0, pages); at < pages;
         at = bits_next_set(touched->open, end, pages)) {
        end = bits_next_clear(touched->open, at, pages);
        bits_set_range(range->written, from + at, from + end);
    }
    for (uint64_t at = bits_next_set(range->written, from, to); at < to; at = bits_next_set(range->written, end, to)) {
        end = bits_next_clear(range->written, at, to);
        state->runs[n++] = (struct run){ at, end };
        for (uint64_t on = bits_next_set(touched->there, at - from, end - from); on < end - from;
             on = bits_next_set(touched->there, stop, end - from)) {
            stop = bits_next_clear(touched->there, on, end - from);
            if (protect_pages(t, range, from + on, from + stop, err) < 0) {
                return -1;
            }
        }
    }
    bits_clear_range(range->written, from, to);
    return n;
}

static int sync_scan(struct tracker *t, struct tracker_range *range, uint64_t start, uint64_t end,
                     tracker_found_fn *found, void *opaque, struct error *err) {
    struct sync_state *state = t->state;
    bool private = range->memory == TRACKER_PRIVATE;
    uint64_t last = tracker_page(range, end);
    for (uint64_t from = tracker_page(range, start), to; from < last; from = to) {
        to = last - from < SLICE_PAGES ? last : from + SLICE_PAGES;
        for (int i = 0; i < YIELDS && atomic_load(&state->faults); i++) {
            sched_yield();
        }
        /* Outside the lock: writers wait for that, and what they do meanwhile is noted in a bit. */
        if (private && touched_look(state->pagemap, range, from, to, &state->touched, err) < 0) {
            return -1;
        }
        int64_t n;
        {
            LOCK_GUARD(&t->lock);
            if (sync_check_locked(state, err) < 0) {
                return -1;
            }
            n = private ? take_private(t, range, from, to, err) : take_slice(t, range, from, to, err);
        }
        if (n < 0) {
            return -1;
        }
        for (int64_t i = 0; i < n; i++) {
            found(opaque, tracker_address(range, state->runs[i].from), tracker_address(range, state->runs[i].to));
        }
    }
    return 0;
}

static int sync_check(struct tracker *t, struct error *err) {
    LOCK_GUARD(&t->lock);
    return sync_check_locked(t->state, err);
}

static void sync_close(struct tracker *t) {
    struct sync_state *state = t->state;
    if (state == NULL) {
        return;
    }
    if (state->running) {
        eventfd_write(state->stop, 1);
        pthread_join(state->thread, NULL);
    }
    if (state->stop >= 0) {
        close(state->stop);
    }
    if (state->pagemap >= 0) {
        close(state->pagemap);
    }
    free(state);
}

const struct tracker_ops tracker_sync_ops = {
    .kind = TRACKER_SYNC,
    .uffd_flags = 0, /* KVM's and read(2)'s faults are kernel-mode faults: user-mode only would make them SIGBUS */
    .uffd_features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
    .uffd_optional = UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
    .kernel = "5.7",
    .open = sync_open,
    .prepare = sync_prepare,
    .scan = sync_scan,
    .check = sync_check,
    .close = sync_close,
};
