/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's memory, seen from outside its VMM.
 *
 *   struct vmm_ram       where the VMM has each block of RAM mapped: addresses
 *   tracker              what was written: addresses
 *   struct ram           the blocks as the engine knows them: pages
 *   removals             what was given back, which no tracker sees (ram/removal.h)
 *
 * A view joins them: what it reports are runs of pages of a block. It decides nothing, and knows neither what a page is
 * sent as nor what a pass is.
 *
 * Order: view_open(); then view_watch_removals() and view_track(), in any order; then scans. One thread.
 */
#ifndef GODWIT_VIEW_VIEW_H
#define GODWIT_VIEW_VIEW_H

#include "base/error.h"
#include "ram/block.h"
#include "ram/removal.h"
#include "track/huge.h"
#include "track/tracker.h"
#include "vmm/vmm.h"

#include <stdint.h>

struct view {
    const struct vmm *vmm;   /* inspected; not owned */
    struct ram *ram;         /* block i is vmm->ram[i]; not owned */
    struct tracker *tracker; /* NULL: nothing is tracked */
    struct removal removal;
    struct huge *huge;  /* the huge pages that there were; NULL: not known */
    int64_t scanned_at; /* clock_now() when the last scan began; 0: none yet */
    int64_t scan_time;  /* ns that it took */
};

/* Not open: view_close() may be called. */
#define VIEW_CLOSED                                                                                                    \
    (struct view) {                                                                                                    \
        .removal = {.fd = -1 }                                                                                         \
    }

/* Opens the memory of an inspected VMM for reading: fills `ram` with its blocks, all bits clear. The caller keeps both
 * until view_close(), and calls ram_free() behind it, also when this fails. Nothing of the VMM is touched. */
int view_open(struct view *v, const struct vmm *vmm, struct ram *ram, struct error *err);

/* From now on view_mark_removed() knows what was given back. */
int view_watch_removals(struct view *v, struct error *err);

/* Attaches to the VMM's process and tracks its RAM, that of the VMM's own too.
 * `witness`: tracker_open(). On error view_stop_tracking() or view_close() undo what was done. */
int view_track(struct view *v, enum tracker_kind kind, const struct remote_witness *witness, struct error *err);
/* Detaches: the VMM's process pays for nothing any more. May be called twice; memory stays readable. */
void view_stop_tracking(struct view *v);
/* For a guest that stays: makes its huge pages whole again, which tracking has split. Behind view_stop_tracking(), with
 * the guest running; takes 0.2 ms for 2 MiB that were split. May be called when nothing was ever tracked. */
void view_restore_huge(struct view *v);

/* Called for each run of written pages, [first, end) of block `block`, in ascending order. They are protected again
 * already. It must not call the view. */
typedef void view_found_fn(void *opaque, uint16_t block, uint64_t first, uint64_t end);

/* Reports what was written since the last scan, and write-protects it again; the first one reports everything. Each
 * write is reported by this scan or by the next, but for those that tracker.h names. After an error what was written is
 * not known any more. `found` NULL: nobody asks, it only begins anew. */
int view_scan(struct view *v, view_found_fn *found, void *opaque, struct error *err);

/* Clears the dirty bits of memory that was never written: holes. */
int view_skip_holes(struct view *v, struct error *err);

/* Sets the dirty bits of what was sent with content and has been given back since. Nearly free when nothing was, where
 * memory is files; where it is private to the VMM a look at its page tables, each time. Behind each scan, before what
 * it has found is read: reading goes by what this has seen (ram/backing.h). */
int view_mark_removed(struct view *v, struct error *err);

/* VIEW_CLOSED and closing twice are allowed. */
void view_close(struct view *v);

#endif
