/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The asynchronous tracker: one ioctl asks the kernel which pages were written and protects them again, page table lock
 * held; a write fault takes the protection away inside the kernel and wakes nobody. Such a fault never waits for a
 * handler, in kernel mode neither, which is why a userfaultfd for user-mode faults only is enough.
 */
#include "track/tracker_ops.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "host/pagemap.h"
#include "remote/uapi.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Address space a call: the kernel holds the target's mmap lock for read meanwhile, 0.7 ms for this much. */
#define SLICE (UINT64_C(1) << 30)
#define REGIONS 8192

struct async_state {
    int pagemap;
    struct page_region regions[REGIONS];
};

static int async_open(struct tracker *t, struct error *err) {
    struct async_state *state = malloc(sizeof(*state));
    if (state == NULL) {
        return error_set(err, ERROR_SYSTEM, "out of memory");
    }
    t->state = state;
    state->pagemap = pagemap_open(t->pid, err);
    return state->pagemap >= 0 ? 0 : -1;
}

static int async_prepare(struct tracker *t, struct tracker_range *range, struct error *err) {
    (void)t;
    /* On hugetlb the kernel does not report a page that is not in the page table yet, not even at first, though the
     * file may have it. (It needs no protection either: being populated makes it "written".) So we remember the first
     * scan ourselves there. On tmpfs it puts a marker into the page table and knows. In private memory we don't want it
     * to: markers are page tables for holes, and bar a huge page from coming on the first touch. */
    if (range->page_size == 4096 && range->memory == TRACKER_SHARED) {
        return 0;
    }
    range->written = tracker_all_written(range, err);
    return range->written != NULL ? 0 : -1;
}

/* Scans [*at, end) until it is through or the regions are full, and moves *at there. Returns how many or -1. Of private
 * memory only what is there: what comes later comes without protection, and so is written. */
static long scan_call(struct tracker *t, enum tracker_memory memory, uint64_t *at, uint64_t end, struct error *err) {
    struct async_state *state = t->state;
    struct pm_scan_arg arg = {
        .size = sizeof(arg),
        .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
        .start = *at,
        .end = end,
        .vec = (uint64_t)(uintptr_t)state->regions,
        .vec_len = REGIONS,
        .category_mask = PAGE_IS_WRITTEN,
        .category_anyof_mask = memory == TRACKER_PRIVATE ? PAGE_IS_PRESENT | PAGE_IS_SWAPPED : 0,
        .return_mask = PAGE_IS_WRITTEN,
    };
    long n = ioctl(state->pagemap, PAGEMAP_SCAN, &arg);
    if (n < 0 && errno == EPERM) {
        return error_set(err, ERROR_VMM, "process %d replaced memory that is being tracked", (int)t->pid);
    }
    if (n < 0 && (errno == ENOTTY || errno == EINVAL)) {
        return error_errno(err, ERROR_REFUSED, "PAGEMAP_SCAN (Linux 6.7 is needed)");
    }
    if (n < 0) {
        return tracker_ioctl_error(t, "PAGEMAP_SCAN", err);
    }
    if (arg.walk_end <= *at || arg.walk_end > end) {
        return error_set(err, ERROR_SYSTEM, "PAGEMAP_SCAN made no progress");
    }
    *at = arg.walk_end;
    return n;
}

/* Reports through the range's bitmap: what the kernel found, and what was never reported. */
static void report_remembered(const struct async_state *state, long n, struct tracker_range *range, uint64_t start,
                              uint64_t end, tracker_found_fn *found, void *opaque) {
    for (long i = 0; i < n; i++) {
        bits_set_range(range->written, tracker_page(range, state->regions[i].start),
                       tracker_page(range, state->regions[i].end));
    }
    uint64_t to = tracker_page(range, end);
    for (uint64_t from = bits_next_set(range->written, tracker_page(range, start), to); from < to;) {
        uint64_t stop = bits_next_clear(range->written, from, to);
        bits_clear_range(range->written, from, stop);
        found(opaque, tracker_address(range, from), tracker_address(range, stop));
        from = bits_next_set(range->written, stop, to);
    }
}

static int async_scan(struct tracker *t, struct tracker_range *range, uint64_t start, uint64_t end,
                      tracker_found_fn *found, void *opaque, struct error *err) {
    const struct async_state *state = t->state;
    /* a multiple of the page size, so that no call cuts a huge page, which the kernel could not protect */
    uint64_t slice = range->page_size > SLICE ? range->page_size : SLICE;
    for (uint64_t at = start; at < end;) {
        uint64_t from = at;
        long n = scan_call(t, range->memory, &at, end - at < slice ? end : at + slice, err);
        if (n < 0) {
            return -1;
        }
        if (range->written != NULL) {
            report_remembered(state, n, range, from, at, found, opaque);
            continue;
        }
        for (long i = 0; i < n; i++) {
            found(opaque, state->regions[i].start, state->regions[i].end);
        }
    }
    return 0;
}

static int async_check(struct tracker *t, struct error *err) {
    (void)t;
    (void)err;
    return 0; /* nothing runs behind the caller's back */
}

static void async_close(struct tracker *t) {
    struct async_state *state = t->state;
    if (state != NULL && state->pagemap >= 0) {
        close(state->pagemap);
    }
    free(state);
}

const struct tracker_ops tracker_async_ops = {
    .kind = TRACKER_ASYNC,
    .uffd_flags = UFFD_USER_MODE_ONLY,
    .uffd_features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_WP_UNPOPULATED |
                     UFFD_FEATURE_WP_ASYNC,
    .kernel = "6.7",
    .open = async_open,
    .prepare = async_prepare,
    .scan = async_scan,
    .check = async_check,
    .close = async_close,
};
