/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest wrote: looked for before each pass, and, for its rate, within one. */
#include "migrate/source.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"

static void mark_written(void *opaque, uint16_t block, uint64_t first, uint64_t end) {
    struct source *s = opaque;
    bits_set_range(s->ram.blocks[block].written, first, end);
    s->found_pages += end - first;
    source_defer_note(s, block, first, end);
}

/* Adds to `written` what was written since the last look, and protects it again. */
static int look(struct source *s, struct error *err) {
    source_defer_look(s, s->view.scanned_at != 0 ? clock_now() - s->view.scanned_at : 0);
    if (view_scan(&s->view, mark_written, s, err) < 0) {
        return -1;
    }
    forecast_note_least(&s->forecast.scan, s->view.scan_time);
    return 0;
}

void source_rate(struct source *s) {
    s->dirty_interval = s->rated_at != 0 ? s->view.scanned_at - s->rated_at : 0;
    s->dirty_pages = s->found_pages;
    s->found_pages = 0;
    s->rated_at = s->view.scanned_at;
    double rate = s->dirty_interval > 0 ? (double)s->dirty_pages * 1e9 / (double)s->dirty_interval : 0;
    status_note(&s->status, &s->status.dirty_rate, (uint64_t)rate);
}

static void note_remaining(struct source *s) {
    status_note(&s->status, &s->status.remaining, ram_dirty_pages(&s->ram) * RAM_PAGE_SIZE);
}

int source_skip_holes(struct source *s, struct error *err) {
    if (view_skip_holes(&s->view, err) < 0) {
        return -1;
    }
    note_remaining(s);
    return 0;
}

int source_scan(struct source *s, struct error *err) {
    rejections_mark(&s->rejections, s->send);
    if (look(s, err) < 0) {
        return -1;
    }
    source_rate(s);
    s->pass.dirtied += ram_take_written(&s->ram);
    if (view_mark_removed(&s->view, err) < 0) {
        return -1;
    }
    note_remaining(s);
    pthread_mutex_lock(&s->status.lock);
    s->status.passes++;
    pthread_mutex_unlock(&s->status.lock);
    s->scanned_at = s->view.scanned_at;
    forecast_note_scan(&s->forecast, s->scanned_at);
    return 0;
}

void source_settle(struct source *s) {
    if (fault_planned("lose-unsettled", NULL)) {
        ram_forget_unsettled(&s->ram);
    }
    ram_settle(&s->ram);
    note_remaining(s);
}

int source_sample(struct source *s, struct error *err) {
    if (look(s, err) < 0) {
        return -1;
    }
    for (size_t i = 0; fault_planned("lose-samples", NULL) && i < s->ram.count; i++) {
        bits_clear_range(s->ram.blocks[i].written, 0, s->ram.blocks[i].pages);
    }
    source_defer_within(s);
    return 0;
}
