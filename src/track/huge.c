/* SPDX-License-Identifier: Apache-2.0 */
#include "track/huge.h"

#include "base/bits.h"
#include "base/clock.h"
#include "host/pagemap.h"
#include "host/process.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE /* Linux 6.1 */
#define MADV_COLLAPSE 25
#endif

#define SEGMENT (UINT64_C(2) << 20)
#define SEGMENT_PAGES (SEGMENT / PAGEMAP_PAGE)
#define REGIONS 512u

struct huge_range {
    uint64_t first, count; /* address of the first whole segment; segments */
    uint64_t *were;        /* bit a segment: a huge page */
};

struct huge {
    int pidfd, pagemap;
    bool scan; /* PAGEMAP_SCAN is there */
    struct huge_range *ranges;
    size_t range_count;
};

struct huge *huge_open(pid_t pid, struct error *err) {
    struct huge *h = calloc(1, sizeof(*h));
    if (h == NULL) {
        error_set(err, ERROR_SYSTEM, "out of memory");
        return NULL;
    }
    h->pidfd = -1;
    if ((h->pagemap = pagemap_open(pid, err)) < 0 || (h->pidfd = process_hold(pid, err)) < 0) {
        huge_close(h);
        return NULL;
    }
    h->scan = pagemap_can_scan(h->pagemap);
    return h;
}

void huge_close(struct huge *h) {
    if (h == NULL) {
        return;
    }
    for (size_t i = 0; i < h->range_count; i++) {
        free(h->ranges[i].were);
    }
    free(h->ranges);
    if (h->pagemap >= 0) {
        close(h->pagemap);
    }
    if (h->pidfd >= 0) {
        close(h->pidfd);
    }
    free(h);
}

/* ---- what is huge ---- */

static int note_by_scan(const struct huge *h, struct huge_range *r, struct error *err) {
    struct page_region regions[REGIONS];
    uint64_t end = r->first + r->count * SEGMENT;
    struct pm_scan_arg arg = { .size = sizeof(arg),
                               .start = r->first,
                               .end = end,
                               .vec = (uint64_t)(uintptr_t)regions,
                               .vec_len = REGIONS,
                               .category_mask = PAGE_IS_HUGE | PAGE_IS_PRESENT | PAGE_IS_PFNZERO,
                               .category_inverted = PAGE_IS_PFNZERO,
                               .return_mask = PAGE_IS_HUGE };
    while (arg.start < end) {
        long n = ioctl(h->pagemap, PAGEMAP_SCAN, &arg);
        if (n < 0 || arg.walk_end <= arg.start) {
            return error_errno(err, ERROR_SYSTEM, "PAGEMAP_SCAN for huge pages");
        }
        for (long i = 0; i < n; i++) {
            bits_set_range(r->were, (regions[i].start - r->first) / SEGMENT, (regions[i].end - r->first) / SEGMENT);
        }
        arg.start = arg.walk_end;
    }
    return 0;
}

/* A huge page begins where one can, and its last small page is the 512th. */
static int note_by_frames(const struct huge *h, struct huge_range *r, struct error *err) {
    for (uint64_t i = 0; i < r->count; i++) {
        uint64_t at = r->first + i * SEGMENT, head, tail;
        if (pagemap_read(h->pagemap, at, 1, &head, err) < 0 ||
            pagemap_read(h->pagemap, at + SEGMENT - PAGEMAP_PAGE, 1, &tail, err) < 0) {
            return -1;
        }
        uint64_t frame = PAGEMAP_FRAME(head);
        if ((head & tail & PAGEMAP_PRESENT) != 0 && frame != 0 && frame % SEGMENT_PAGES == 0 &&
            PAGEMAP_FRAME(tail) == frame + SEGMENT_PAGES - 1) {
            bits_set(r->were, i);
        }
    }
    return 0;
}

int huge_note(struct huge *h, uint64_t start, uint64_t end, struct error *err) {
    struct huge_range r = { .first = (start + SEGMENT - 1) / SEGMENT * SEGMENT };
    if (r.first >= end / SEGMENT * SEGMENT) {
        return 0;
    }
    r.count = (end - r.first) / SEGMENT;
    r.were = calloc(bits_words(r.count), sizeof(*r.were));
    struct huge_range *larger = reallocarray(h->ranges, h->range_count + 1, sizeof(*larger));
    h->ranges = larger != NULL ? larger : h->ranges;
    if (r.were == NULL || larger == NULL) {
        free(r.were);
        return error_set(err, ERROR_SYSTEM, "out of memory");
    }
    h->ranges[h->range_count++] = r;
    return h->scan ? note_by_scan(h, &r, err) : note_by_frames(h, &r, err);
}

/* ---- huge again ---- */

/* All of it is in memory: a huge page takes no more. Of the page of zeros, which takes none, the page map alone does
 * not tell; then it is one page for many. */
static bool is_whole(const struct huge *h, uint64_t at) {
    uint64_t entries[SEGMENT_PAGES];
    struct error err = { 0 };
    if (pagemap_read(h->pagemap, at, SEGMENT_PAGES, entries, &err) < 0) {
        return false;
    }
    for (size_t i = 0; i < SEGMENT_PAGES; i++) {
        uint64_t frame = PAGEMAP_FRAME(entries[i]);
        if ((entries[i] & PAGEMAP_PRESENT) == 0 || (i > 0 && frame != 0 && frame == PAGEMAP_FRAME(entries[i - 1]))) {
            return false;
        }
    }
    return true;
}

static bool collapse(const struct huge *h, uint64_t at) {
    struct iovec segment = { (void *)(uintptr_t)at, SEGMENT }; /* NOLINT(performance-no-int-to-ptr): theirs */
    return syscall(SYS_process_madvise, h->pidfd, &segment, 1, MADV_COLLAPSE, 0) == (long)SEGMENT;
}

/* Who waits for us to end waits so long at most. The rest is khugepaged's. */
#define RESTORE_MOST (5 * CLOCK_S)

void huge_restore(const struct huge *h, struct huge_count *count) {
    int64_t end = clock_now() + RESTORE_MOST;
    *count = (struct huge_count){ 0 };
    for (size_t i = 0; i < h->range_count; i++) {
        const struct huge_range *r = &h->ranges[i];
        for (uint64_t k = bits_next_set(r->were, 0, r->count); k < r->count;
             k = bits_next_set(r->were, k + 1, r->count)) {
            uint64_t at = r->first + k * SEGMENT;
            bool done = clock_now() < end && is_whole(h, at) && collapse(h, at);
            count->noted++;
            count->restored += done ? 1 : 0;
            count->left += done ? 0 : 1;
        }
    }
}
