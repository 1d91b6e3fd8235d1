/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest wrote: looked for before each pass, and, for its rate, within one. */
#include "migrate/source.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"

static void mark_written(void *opaque, uint16_t block, uint64_t first, uint64_t end) {
    struct source *s = opaque;
    bits_set_range(s->sender.ram.blocks[block].written, first, end);
    s->holder.rate.found += end - first;
    source_defer_heat(s, block, first, end);
}

/* Adds to `written` what was written since the last look, and protects it again. */
static int look(struct source *s, struct error *err) {
    source_defer_look(s, s->sender.view.scanned_at != 0 ? clock_now() - s->sender.view.scanned_at : 0);
    return view_scan(&s->sender.view, mark_written, s, err);
}

void source_rate(struct source *s) {
    s->holder.rate.interval = s->holder.rate.at != 0 ? s->sender.view.scanned_at - s->holder.rate.at : 0;
    s->holder.rate.pages = s->holder.rate.found;
    s->holder.rate.found = 0;
    s->holder.rate.at = s->sender.view.scanned_at;
    double rate =
        s->holder.rate.interval > 0 ? (double)s->holder.rate.pages * 1e9 / (double)s->holder.rate.interval : 0;
    status_note(&s->status, &s->status.sent.dirty_rate, (uint64_t)rate);
}

static void count_dirty(struct source *s) {
    s->sender.dirty = ram_dirty_pages(&s->sender.ram);
    status_note(&s->status, &s->status.sent.remaining, s->sender.dirty * RAM_PAGE_SIZE);
}

int source_skip_holes(struct source *s, struct error *err) {
    if (view_skip_holes(&s->sender.view, err) < 0) {
        return -1;
    }
    count_dirty(s);
    return 0;
}

int source_scan(struct source *s, struct error *err) {
    rejections_mark(&s->sender.rejections, s->sender.send);
    if (look(s, err) < 0) {
        return -1;
    }
    forecast_note_least(&s->holder.forecast.scan, s->sender.view.scan_time);
    source_rate(s);
    s->sender.pass.dirtied += ram_take_written(&s->sender.ram);
    if (view_mark_removed(&s->sender.view, err) < 0) {
        return -1;
    }
    count_dirty(s);
    pthread_mutex_lock(&s->status.lock);
    s->status.sent.passes++;
    pthread_mutex_unlock(&s->status.lock);
    s->sender.scanned_at = s->sender.view.scanned_at;
    forecast_note_scan(&s->holder.forecast, s->sender.scanned_at);
    return 0;
}

void source_settle(struct source *s) {
    ram_settle(&s->sender.ram);
    count_dirty(s);
}

int source_sample(struct source *s, struct error *err) {
    if (look(s, err) < 0) {
        return -1;
    }
    for (size_t i = 0; fault_planned("lose-samples", NULL) && i < s->sender.ram.count; i++) {
        bits_clear_range(s->sender.ram.blocks[i].written, 0, s->sender.ram.blocks[i].pages);
    }
    source_defer_within(s);
    return 0;
}
