/* SPDX-License-Identifier: Apache-2.0 */
#include "predict/trace.h"

#include "base/bits.h"
#include "predict/xorshift.h"

#include <stdlib.h>

void trace_init(struct trace *t, uint32_t pages, double scale) {
    *t = (struct trace){ .pages = pages, .scale = scale };
}

void trace_free(struct trace *t) {
    for (uint32_t i = 0; i < t->count; i++) {
        free(t->scans[i].written);
    }
    free(t->scans);
    t->scans = NULL;
    t->count = 0;
}

static int make_room(struct trace *t) {
    if (t->count < t->room) {
        return 0;
    }
    uint32_t room = t->room > 0 ? 2 * t->room : 256;
    struct trace_scan *scans = realloc(t->scans, room * sizeof(*scans));
    if (scans == NULL) {
        return -1;
    }
    t->scans = scans;
    t->room = room;
    return 0;
}

uint64_t *trace_add(struct trace *t, int64_t time, struct error *err) {
    uint64_t *written = make_room(t) == 0 ? calloc(bits_words(t->pages), sizeof(*written)) : NULL;
    if (written == NULL) {
        error_set(err, ERROR_SYSTEM, "no memory for what the guest writes");
        return NULL;
    }
    time = time > 0 ? time : 1;
    t->scans[t->count++] = (struct trace_scan){ time, written };
    t->length += time;
    return written;
}

/* The draw is the same for a scan each time. */
static uint32_t draw(uint64_t *state, uint32_t below) {
    return (uint32_t)((xorshift(state) >> 32) * below >> 32);
}

static void enter(struct trace_replay *r, uint32_t scan) {
    const struct trace *t = r->trace;
    const uint64_t *written = t->scans[scan].written;
    r->scan = scan;
    r->at = 0;
    r->count = r->taken = 0;
    for (uint64_t page = bits_next_set(written, 0, t->pages); page < t->pages;
         page = bits_next_set(written, page + 1, t->pages)) {
        r->order[r->count++] = (uint32_t)page;
    }
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15) ^ scan;
    for (uint32_t i = r->count; i > 1; i--) {
        uint32_t k = draw(&state, i), page = r->order[k];
        r->order[k] = r->order[i - 1];
        r->order[i - 1] = page;
    }
}

int trace_replay_begin(struct trace_replay *r, const struct trace *trace, int64_t offset, struct error *err) {
    *r = (struct trace_replay){ .trace = trace };
    r->order = malloc(trace->pages * sizeof(*r->order));
    if (r->order == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory to replay what the guest writes");
    }
    uint32_t scan = 0;
    for (offset %= trace->length; offset >= trace->scans[scan].time; scan++) {
        offset -= trace->scans[scan].time;
    }
    enter(r, scan);
    return 0;
}

void trace_replay_end(struct trace_replay *r) {
    free(r->order);
    r->order = NULL;
}

void trace_replay(struct trace_replay *r, int64_t time, trace_written_fn *written, void *opaque) {
    while (time > 0) {
        int64_t whole = r->trace->scans[r->scan].time, left = whole - r->at;
        int64_t step = time < left ? time : left;
        r->at += step;
        time -= step;
        uint32_t until = (uint32_t)((double)r->count * (double)r->at / (double)whole + 0.5);
        until = r->at == whole || until > r->count ? r->count : until;
        for (; r->taken < until; r->taken++) {
            written(opaque, r->order[r->taken]);
        }
        if (r->at == whole) {
            enter(r, r->scan + 1 < r->trace->count ? r->scan + 1 : 0);
        }
    }
}
