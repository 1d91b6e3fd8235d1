/* SPDX-License-Identifier: Apache-2.0 */
#include "view/view.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "host/pagemap.h"
#include "view/memory.h"

#include <unistd.h>

int view_open(struct view *v, const struct vmm *vmm, struct ram *ram, struct error *err) {
    *v = VIEW_CLOSED;
    v->vmm = vmm;
    v->ram = ram;
    if (ram_init(ram, vmm->ram_count, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < vmm->ram_count; i++) {
        if (ram_open_source(ram, i, memory_open(&vmm->ram[i], vmm->pid, err), err) < 0) {
            return -1;
        }
        /* the VMM's stream has such a block too: what the filter lets through is put on top of ours */
        ram->blocks[i].own |= vmm->way == VMM_WAY_FILTER && !vmm->ram[i].skipped;
    }
    return 0;
}

int view_watch_removals(struct view *v, struct error *err) {
    return removal_watch(&v->removal, v->ram, err);
}

/* Without that nothing is wrong but the speed of a guest whose migration was given up. */
static void note_huge(struct view *v) {
    struct error err = { 0 };
    huge_close(v->huge);
    v->huge = huge_open(v->vmm->pid, &err);
    for (size_t i = 0; v->huge != NULL && i < v->vmm->ram_count; i++) {
        const struct vmm_ram *r = &v->vmm->ram[i];
        if (memory_kind(r) == TRACKER_PRIVATE && r->page_size == RAM_PAGE_SIZE) {
            huge_note(v->huge, r->ranges[0].start, r->ranges[0].end, &err);
        }
    }
    if (error_is_set(&err)) {
        log_debug("the guest's huge pages are not known: %s", err.desc);
    }
}

void view_restore_huge(struct view *v) {
    struct huge_count n = { 0 };
    int64_t begin = clock_now();
    if (v->huge != NULL) {
        huge_restore(v->huge, &n);
        log_debug("of %llu huge pages %llu are whole again, %llu not, in %.1f ms", (unsigned long long)n.noted,
                  (unsigned long long)n.restored, (unsigned long long)n.left, (double)(clock_now() - begin) / 1e6);
    }
    huge_close(v->huge);
    v->huge = NULL;
}

int view_track(struct view *v, enum tracker_kind kind, const struct remote_witness *witness, struct error *err) {
    note_huge(v);
    v->tracker = tracker_open(v->vmm->pid, kind, witness, err);
    if (v->tracker == NULL) {
        return -1;
    }
    for (size_t i = 0; i < v->vmm->ram_count; i++) {
        const struct vmm_ram *r = &v->vmm->ram[i];
        for (size_t k = 0; k < r->range_count; k++) {
            if (tracker_add(v->tracker, r->ranges[k].start, r->ranges[k].end, r->page_size, memory_kind(r), err) < 0) {
                return error_prefix(err, "RAM %s: ", r->id);
            }
        }
    }
    return 0;
}

void view_stop_tracking(struct view *v) {
    tracker_close(v->tracker);
    v->tracker = NULL;
}

/* ---- scanning: from addresses to pages ---- */

struct scanned {
    view_found_fn *found;
    void *opaque;
    uint16_t block;
    uint64_t pages; /* of the block */
    const struct vmm_ram_range *range;
};

static void report(void *opaque, uint64_t start, uint64_t end) {
    const struct scanned *s = opaque;
    uint64_t first = (start - s->range->start + s->range->offset) / RAM_PAGE_SIZE;
    uint64_t last = (end - s->range->start + s->range->offset + RAM_PAGE_SIZE - 1) / RAM_PAGE_SIZE;
    last = last < s->pages ? last : s->pages; /* a mapping may be longer than the guest's memory */
    if (first < last && s->found != NULL) {
        s->found(s->opaque, s->block, first, last);
    }
}

int view_scan(struct view *v, view_found_fn *found, void *opaque, struct error *err) {
    int64_t begin = clock_now();
    if (tracker_check(v->tracker, err) < 0) {
        return -1;
    }
    for (uint16_t i = 0; i < v->ram->count; i++) {
        const struct vmm_ram *r = &v->vmm->ram[i];
        for (size_t k = 0; k < r->range_count; k++) {
            struct scanned s = { found, opaque, i, v->ram->blocks[i].pages, &r->ranges[k] };
            if (tracker_scan(v->tracker, s.range->start, s.range->end, report, &s, err) < 0) {
                return -1;
            }
        }
    }
    v->scanned_at = begin;
    v->scan_time = clock_now() - begin;
    return 0;
}

/* ---- memory that is not there ---- */

int view_skip_holes(struct view *v, struct error *err) {
    for (uint16_t i = 0; i < v->ram->count; i++) {
        if (ram_skip_holes(&v->ram->blocks[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* A hugetlbfs file cannot be asked for its holes, and a scan passes over a huge page that was written, and then
 * removed. What the process itself has in no page table may be one: it is read again. */
static int mark_absent(struct ram_block *b, const struct vmm_ram_range *r, uint64_t page_size, int pagemap,
                       struct error *err) {
    uint64_t small = page_size / RAM_PAGE_SIZE;
    for (uint64_t at = r->start; at < r->end; at += page_size) {
        uint64_t entry, first = (at - r->start + r->offset) / RAM_PAGE_SIZE;
        if (pagemap_read(pagemap, at, 1, &entry, err) < 0) {
            return -1;
        }
        if ((entry & PAGEMAP_PRESENT) == 0 && first < b->pages) {
            removal_mark_hole(b, first, first + small < b->pages ? first + small : b->pages);
        }
    }
    return 0;
}

int view_mark_removed(struct view *v, struct error *err) {
    if (removal_mark(&v->removal, v->ram, err) < 0) {
        return -1;
    }
    for (uint16_t i = 0; i < v->ram->count; i++) {
        const struct vmm_ram *r = &v->vmm->ram[i];
        if (r->kind != VMM_RAM_FILE || !r->hugetlb || !v->removal.told) {
            continue;
        }
        CLEANUP_CLOSE int pagemap = pagemap_open(v->vmm->pid, err);
        if (pagemap < 0) {
            return -1;
        }
        for (size_t k = 0; k < r->range_count; k++) {
            if (mark_absent(&v->ram->blocks[i], &r->ranges[k], r->page_size, pagemap, err) < 0) {
                return -1;
            }
        }
    }
    return 0;
}

void view_close(struct view *v) {
    view_stop_tracking(v);
    huge_close(v->huge);
    v->huge = NULL;
    removal_close(&v->removal);
}
