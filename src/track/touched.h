/* SPDX-License-Identifier: Apache-2.0 */
/* Private memory by its page tables: what is there, and what of that nothing protects. */
#ifndef GODWIT_TRACK_TOUCHED_H
#define GODWIT_TRACK_TOUCHED_H

#include "track/tracker_ops.h"

#include <stdint.h>

#define TOUCHED_PAGES 16384u /* at most, at a time */

/* A bit a page, from the first one that was asked for. */
struct touched {
    uint64_t there[TOUCHED_PAGES / 64]; /* in memory, in swap, or on its way between */
    uint64_t open[TOUCHED_PAGES / 64];  /* there, and not write-protected */
};

/* Of the pages [from, to) of the range. */
int touched_look(int pagemap, const struct tracker_range *range, uint64_t from, uint64_t to, struct touched *touched,
                 struct error *err);

#endif
