/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest was seen to write: for a random sample of its pages one bitmap a scan, and how long the scan looked
 * back. A replay puts it through again at any speed, as often as wanted, from any place.
 *
 * Within a scan nothing is known of the order, so a replay draws one, the same each time: half of a scan's time writes
 * half of its pages. A page that was written more than once between two scans counts once there; that is why some
 * scans follow each other closely.
 */
#ifndef GODWIT_PREDICT_TRACE_H
#define GODWIT_PREDICT_TRACE_H

#include "base/error.h"

#include <stdint.h>

/* Pages in a sample: what a scan's bitmap, and a replay's steps, cost. */
#define TRACE_MOST_PAGES 65536u

struct trace {
    uint32_t pages; /* in the sample, 1..TRACE_MOST_PAGES */
    double scale;   /* pages of the guest for each of them; 1 or more */
    uint32_t count, room;
    struct trace_scan {
        int64_t time; /* ns that it looks back, more than 0 */
        uint64_t *written;
    } * scans;
    int64_t length; /* ns, of all scans together */
};

void trace_init(struct trace *t, uint32_t pages, double scale);
void trace_free(struct trace *t);
/* A new scan: its bitmap, all zero, for the caller to fill before the next is added; owned by the trace. NULL when
 * there is no memory. */
uint64_t *trace_add(struct trace *t, int64_t time, struct error *err);

struct trace_replay {
    const struct trace *trace;
    uint32_t scan;         /* that it is in */
    int64_t at;            /* ns into it */
    uint32_t *order;       /* the scan's pages, in the order drawn; owned */
    uint32_t count, taken; /* of these */
};

/* Begins `offset` ns into the trace, which has a scan at least and stays valid. */
int trace_replay_begin(struct trace_replay *r, const struct trace *trace, int64_t offset, struct error *err);
void trace_replay_end(struct trace_replay *r);

/* Called for each page that is written, perhaps more than once. */
typedef void trace_written_fn(void *opaque, uint32_t page);
/* The next `time` ns of the guest's own time; from the trace's end it goes on at its beginning. */
void trace_replay(struct trace_replay *r, int64_t time, trace_written_fn *written, void *opaque);

#endif
