/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of another process were written since the last scan.
 *
 * Two back ends behind one ops table (tracker_ops.h):
 *   async  PAGEMAP_SCAN over a WP_ASYNC userfaultfd (Linux 6.7): the kernel resolves write faults by itself.
 *   sync   write-protect faults served by a thread of ours (Linux 5.19 to 6.6; from 5.13 on for anonymous memory).
 *
 * "Written" means through the process's own mapping: by its instructions, by the kernel on its behalf (read(2) into the
 * memory), by KVM. Not seen, because no page table of the process takes part (tests/platform proves each):
 *   - writes through another mapping or through the file: another process's, pwrite(2);
 *   - removing pages: fallocate(PUNCH_HOLE), MADV_REMOVE, ftruncate. The protection outlives the page, so memory that
 *     turned to zeros so is reported only when it is written again (or was written before, on 4 KiB pages). A balloon
 *     and free page reporting do that. inotify's IN_MODIFY on the file tells that it happened, not where;
 *   - DMA into pages that were pinned before the scan.
 *
 * Memory that is private to the process (anonymous, or a private copy of a file) is tracked in another way: only what
 * is there is ever protected, so a scan makes no page tables, and what is touched for the first time, as a huge page
 * too, is found written because nothing protects it. Of such memory, too, nobody is told that pages were given back
 * (MADV_DONTNEED): what is not there any more can be asked (ram/population.h).
 */
#ifndef GODWIT_TRACK_TRACKER_H
#define GODWIT_TRACK_TRACKER_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum tracker_kind { TRACKER_AUTO, TRACKER_ASYNC, TRACKER_SYNC };

/* What is behind the addresses: a file that others may map too, or memory that nobody else sees. */
enum tracker_memory { TRACKER_SHARED, TRACKER_PRIVATE };

struct tracker;
struct remote_witness;

/* Called for each run of written pages: [start, end) are addresses in the tracked process, multiples of the page size
 * of the range. Runs come in address order, do not overlap, and may touch. The pages are protected again by then:
 * copying them here is right. It must not call the tracker. */
typedef void tracker_found_fn(void *opaque, uint64_t start, uint64_t end);

/* Attaches to the process. With TRACKER_AUTO the best kind that this kernel and process allow.
 * `witness` is told what attaching changes (remote.h); NULL: nobody is. Returns NULL on error; the process is then as
 * it was. The caller closes it. */
struct tracker *tracker_open(pid_t pid, enum tracker_kind kind, const struct remote_witness *witness,
                             struct error *err);

/* Starts to track [start, end), mappings without a gap of page size `page_size` (4096 or the hugetlb size), both
 * multiples of it; how many mappings it is does not matter. The first scan reports all of it as written.
 * ERROR_REFUSED, with a text that says which: a second userfaultfd on the range; a kind of memory that this kernel or
 * this kind of tracker cannot protect. Files on a disk (ext4) only the async one can. */
int tracker_add(struct tracker *t, uint64_t start, uint64_t end, uint64_t page_size, enum tracker_memory memory,
                struct error *err);

/* Reports what was written in [start, end) since the last scan and write-protects exactly that again, atomically per
 * page: a write is reported by this scan or by the next, never lost. [start, end) lies inside one added range, both
 * multiples of its page size. Walks in slices, so that the target's mmap lock is never held for long. Not thread-safe:
 * one scanner at a time. After an error what was written is not known any more. */
int tracker_scan(struct tracker *t, uint64_t start, uint64_t end, tracker_found_fn *found, void *opaque,
                 struct error *err);

/* Never TRACKER_AUTO: what it came to. */
enum tracker_kind tracker_kind(const struct tracker *t);
const char *tracker_kind_name(enum tracker_kind kind);
/* How long the target's thread was stopped to attach, ns. */
int64_t tracker_stopped_ns(const struct tracker *t);
/* A tracker that failed behind the caller's back (its thread met an error): -1 with the error, else 0. The process runs
 * on then, with nothing protected. Scans fail too. */
int tracker_check(struct tracker *t, struct error *err);

/* Stops tracking; no page stays protected. NULL is allowed. */
void tracker_close(struct tracker *t);

#endif
