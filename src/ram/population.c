/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/population.h"

#include "base/bits.h"
#include "host/pagemap.h"
#include "ram/backing.h"

#include <errno.h>
#include <unistd.h>

#define REGIONS 512u /* 12 KiB of stack */
#define ENTRIES 1024u

/* Where the bits go. */
struct result {
    uint64_t start;
    uint64_t *there, *unsure;
};

static void note(const struct result *r, uint64_t start, uint64_t end, bool unsure) {
    uint64_t from = (start - r->start) / RAM_PAGE_SIZE, to = (end - r->start) / RAM_PAGE_SIZE;
    bits_set_range(r->there, from, to);
    if (unsure && r->unsure != NULL) {
        bits_set_range(r->unsure, from, to);
    }
}

/* ---- by reading ---- */

static int note_entry(const struct population *p, const struct result *r, uint64_t at, uint64_t entry,
                      struct error *err) {
    bool present = (entry & PAGEMAP_PRESENT) != 0, swapped = (entry & PAGEMAP_SWAPPED) != 0, unsure = false;
    if (p->kind == POPULATION_HUGE && !present) {
        unsure = swapped = (entry & PAGEMAP_UFFD_WP) != 0;
    } else if (p->kind == POPULATION_COPIES && swapped) {
        if (PAGEMAP_FRAME(entry) == 0) {
            return error_set(err, ERROR_REFUSED,
                             "what is in swap of memory that is a private copy of a file cannot be told: run as root "
                             "(CAP_SYS_ADMIN)");
        }
        swapped = PAGEMAP_SWAP_TYPE(entry) != pagemap_marker();
    }
    bool files = p->kind != POPULATION_ANONYMOUS && (entry & PAGEMAP_FILE) != 0;
    if ((present || swapped) && !files) {
        note(r, at, at + RAM_PAGE_SIZE, unsure);
    }
    return 0;
}

static int find_by_reading(const struct population *p, uint64_t start, uint64_t end, const struct result *r,
                           struct error *err) {
    uint64_t entries[ENTRIES];
    for (uint64_t at = start; at < end;) {
        uint64_t left = (end - at) / RAM_PAGE_SIZE, n = left < ENTRIES ? left : ENTRIES;
        if (pagemap_read(p->pagemap, at, (size_t)n, entries, err) < 0) {
            return -1;
        }
        for (uint64_t i = 0; i < n; i++) {
            if (entries[i] != 0 && note_entry(p, r, at + i * RAM_PAGE_SIZE, entries[i], err) < 0) {
                return -1;
            }
        }
        at += n * RAM_PAGE_SIZE;
    }
    return 0;
}

/* ---- by asking for runs ---- */

static struct pm_scan_arg question(enum population_kind kind, struct page_region regions[REGIONS]) {
    struct pm_scan_arg arg = {
        .size = sizeof(arg),
        .vec = (uint64_t)(uintptr_t)regions,
        .vec_len = REGIONS,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
    };
    /* what is named in both must not be */
    arg.category_mask = arg.category_inverted = kind == POPULATION_ANONYMOUS ? PAGE_IS_PFNZERO : PAGE_IS_FILE;
    /* runs are cut where what is returned changes */
    arg.return_mask = kind == POPULATION_ANONYMOUS ? PAGE_IS_PFNZERO : PAGE_IS_SWAPPED;
    return arg;
}

static int note_region(const struct population *p, const struct page_region *region, const struct result *r,
                       struct error *err) {
    bool swapped = (region->categories & PAGE_IS_SWAPPED) != 0;
    if (swapped && p->kind == POPULATION_COPIES) {
        return find_by_reading(p, region->start, region->end, r, err);
    }
    note(r, region->start, region->end, swapped);
    return 0;
}

static int find_by_scan(const struct population *p, uint64_t start, uint64_t end, const struct result *r,
                        struct error *err) {
    struct page_region regions[REGIONS];
    struct pm_scan_arg arg = question(p->kind, regions);
    while (start < end) {
        arg.start = start;
        arg.end = end;
        long n = ioctl(p->pagemap, PAGEMAP_SCAN, &arg);
        if (n < 0) {
            return errno == ESRCH ? error_set(err, ERROR_VMM, "the VMM has ended: it has no page map any more")
                                  : error_errno(err, ERROR_SYSTEM, "PAGEMAP_SCAN");
        }
        for (long i = 0; i < n; i++) {
            if (note_region(p, &regions[i], r, err) < 0) {
                return -1;
            }
        }
        if (arg.walk_end <= start) {
            return error_set(err, ERROR_SYSTEM, "PAGEMAP_SCAN made no progress");
        }
        start = arg.walk_end;
    }
    return 0;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): what is found is written there */
int population_find(const struct population *p, uint64_t start, uint64_t end, uint64_t *there, uint64_t *unsure,
                    struct error *err) {
    struct result result = { start, there, unsure };
    return p->scan ? find_by_scan(p, start, end, &result, err) : find_by_reading(p, start, end, &result, err);
}

int population_open(struct population *p, pid_t pid, enum population_kind kind, struct error *err) {
    *p = (struct population){ .kind = kind };
    p->pagemap = pagemap_open(pid, err);
    if (p->pagemap < 0) {
        return -1;
    }
    p->scan = pagemap_can_scan(p->pagemap);
    return 0;
}

void population_close(struct population *p) {
    if (p->pagemap >= 0) {
        close(p->pagemap);
        p->pagemap = -1;
    }
}
