/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest wrote: looked for before each pass, and, for its rate, within one. */
#include "migrate/source.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"

/* Where in a block a mapping lies. */
struct place {
    struct source *source;
    uint16_t index;
    struct ram_block *block;
    const struct vmm_ram_range *range;
};

static void mark_written(void *opaque, uint64_t start, uint64_t end) {
    const struct place *p = opaque;
    uint64_t first = (start - p->range->start + p->range->offset) / RAM_PAGE_SIZE;
    uint64_t last = (end - p->range->start + p->range->offset + RAM_PAGE_SIZE - 1) / RAM_PAGE_SIZE;
    last = last < p->block->pages ? last : p->block->pages;
    if (last > first) {
        bits_set_range(p->block->written, first, last);
        p->source->found_pages += last - first;
        source_defer_note(p->source, p->index, first, last);
    }
}

/* Adds to `written` what was written since the last look, and protects it again. */
static int look(struct source *s, struct error *err) {
    int64_t now = clock_now();
    if (tracker_check(s->tracker, err) < 0) {
        return -1;
    }
    source_defer_look(s, s->looked_at != 0 ? now - s->looked_at : 0);
    for (uint16_t i = 0; i < s->ram.count; i++) {
        const struct vmm_ram *ram = &s->vmm->ram[i];
        for (size_t k = 0; k < ram->range_count; k++) {
            struct place place = { s, i, &s->ram.blocks[i], &ram->ranges[k] };
            if (tracker_scan(s->tracker, place.range->start, place.range->end, mark_written, &place, err) < 0) {
                return -1;
            }
        }
    }
    s->looked_at = now;
    s->scan_time = clock_now() - now;
    forecast_note_least(&s->forecast.scan, s->scan_time);
    return 0;
}

void source_rate(struct source *s) {
    s->dirty_interval = s->rated_at != 0 ? s->looked_at - s->rated_at : 0;
    s->dirty_pages = s->found_pages;
    s->found_pages = 0;
    s->rated_at = s->looked_at;
    double rate = s->dirty_interval > 0 ? (double)s->dirty_pages * 1e9 / (double)s->dirty_interval : 0;
    status_note(&s->status, &s->status.dirty_rate, (uint64_t)rate);
}

static void note_remaining(struct source *s) {
    status_note(&s->status, &s->status.remaining, ram_dirty_pages(&s->ram) * RAM_PAGE_SIZE);
}

int source_skip_holes(struct source *s, struct error *err) {
    for (size_t i = 0; i < s->ram.count; i++) {
        if (ram_skip_holes(&s->ram.blocks[i], err) < 0) {
            return -1;
        }
    }
    note_remaining(s);
    return 0;
}

int source_scan(struct source *s, struct error *err) {
    source_mark_rejections(s);
    if (look(s, err) < 0) {
        return -1;
    }
    source_rate(s);
    s->pass.dirtied += ram_take_written(&s->ram);
    if (removal_mark(&s->removal, &s->ram, err) < 0) {
        return -1;
    }
    note_remaining(s);
    pthread_mutex_lock(&s->status.lock);
    s->status.passes++;
    pthread_mutex_unlock(&s->status.lock);
    s->scanned_at = s->looked_at;
    forecast_note_scan(&s->forecast, s->scanned_at);
    return 0;
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
