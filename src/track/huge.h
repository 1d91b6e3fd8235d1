/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The huge pages of a process, put back.
 *
 * A write to a protected transparent huge page splits it, so what a guest writes while it is tracked lies in small
 * pages afterwards. Where the guest has left nobody minds. Where it stays (an attempt that was given up, a prediction)
 * the segments of 2 MiB that were huge before are made huge again: process_madvise(MADV_COLLAPSE), Linux 6.1.
 */
#ifndef GODWIT_TRACK_HUGE_H
#define GODWIT_TRACK_HUGE_H

#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

struct huge;

/* For a process; NULL on error. The caller closes it. */
struct huge *huge_open(pid_t pid, struct error *err);
/* Notes which segments of [start, end) are huge pages now: before the first scan. Small pages, any number of mappings.
 * A kernel before 6.7 does not say it; there the physical pages do, where we may know them (CAP_SYS_ADMIN). */
int huge_note(struct huge *h, uint64_t start, uint64_t end, struct error *err);

struct huge_count {
    uint64_t noted;    /* segments that were huge */
    uint64_t restored; /* that were asked for again and are huge now */
    uint64_t left;     /* that have holes by now, which a huge page would fill; or that the kernel would not */
};

/* When nothing is tracked any more: makes them huge again. A segment that has lost pages since stays as it is. Copies
 * what was split, so it takes 0.2 ms for each such segment, in which the process may have to wait for a page fault: for
 * who has time, with the guest running; 5 s in all at most, the rest is left to the kernel. What fails is counted, no
 * more. */
void huge_restore(const struct huge *h, struct huge_count *count);
/* NULL is allowed. */
void huge_close(struct huge *h);

#endif
