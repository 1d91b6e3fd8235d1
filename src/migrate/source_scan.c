/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/source.h"

#include "base/bits.h"
#include "base/clock.h"

/* Where in a block a mapping lies. */
struct place {
    struct ram_block *block;
    const struct vmm_ram_range *range;
};

static void mark_dirty(void *opaque, uint64_t start, uint64_t end) {
    const struct place *p = opaque;
    uint64_t first = (start - p->range->start + p->range->offset) / RAM_PAGE_SIZE;
    uint64_t last = (end - p->range->start + p->range->offset + RAM_PAGE_SIZE - 1) / RAM_PAGE_SIZE;
    bits_set_range(p->block->dirty, first, last < p->block->pages ? last : p->block->pages);
}

int source_scan(struct source *s, struct error *err) {
    int64_t now = clock_now();
    source_mark_rejections(s);
    uint64_t before = ram_dirty_pages(&s->ram);
    if (tracker_check(s->tracker, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < s->ram.count; i++) {
        const struct vmm_ram *ram = &s->vmm->ram[i];
        for (size_t k = 0; k < ram->range_count; k++) {
            struct place place = { &s->ram.blocks[i], &ram->ranges[k] };
            if (tracker_scan(s->tracker, place.range->start, place.range->end, mark_dirty, &place, err) < 0) {
                return -1;
            }
        }
    }
    if (removal_mark(&s->removal, &s->ram, err) < 0) {
        return -1;
    }
    uint64_t dirty = ram_dirty_pages(&s->ram);
    pthread_mutex_lock(&s->status.lock);
    s->status.remaining = dirty * RAM_PAGE_SIZE;
    s->status.passes++;
    if (s->scanned_at != 0 && now > s->scanned_at) {
        s->status.dirty_rate = (uint64_t)((double)(dirty - before) * 1e9 / (double)(now - s->scanned_at));
    }
    pthread_mutex_unlock(&s->status.lock);
    s->scanned_at = now;
    s->scan_time = clock_now() - now;
    return 0;
}

/* Learns from a pass how fast passes go. Tiny ones say more of the round trip than of the link. */
static void learn(struct source *s, uint64_t pages) {
    double seconds = (double)(clock_now() - s->pass_started) / 1e9;
    uint64_t bytes = source_transferred(s) - s->sent_before;
    if (seconds > 0 && (pages > 1024 || s->pages_per_second == 0)) {
        s->pages_per_second = (double)pages / seconds;
    }
    pthread_mutex_lock(&s->status.lock);
    s->status.transferred = source_transferred(s);
    s->status.mbps = seconds > 0 ? (double)bytes * 8 / seconds / 1e6 : 0;
    pthread_mutex_unlock(&s->status.lock);
}

void source_pass_begin(struct source *s) {
    s->pass_pages = s->status.remaining / RAM_PAGE_SIZE; /* main thread: the only writer */
    atomic_store(&ram_send_counters(s->send)->done, 0);
    s->pass_started = clock_now();
    s->sent_before = source_transferred(s);
    ram_send_set_cache(s->send, s->plan.delta_cache);
    ram_send_set_urgent(s->send, s->stopped_at != 0);
    ram_send_start(s->send);
}

/* A destination that pings but takes nothing must not keep a stopped guest waiting. */
#define STOPPED_PATIENCE (5 * CLOCK_S)

struct watch {
    uint64_t moved;
    int64_t moved_at; /* clock_now() of the last byte, or of the last page that needed none */
};

static int check_moving(struct source *s, struct watch *w, struct error *err) {
    uint64_t now = source_transferred(s) + atomic_load(&ram_send_counters(s->send)->done);
    if (now != w->moved) {
        *w = (struct watch){ now, clock_now() };
    }
    if (s->stopped_at != 0 && clock_now() - w->moved_at > STOPPED_PATIENCE) {
        return error_set(err, ERROR_LINK,
                         "the destination takes no more of the last pages while the guest stands still");
    }
    return 0;
}

int source_pass_wait(struct source *s, struct error *err) {
    struct watch watch = { 0, clock_now() };
    int finished;
    while ((finished = ram_send_poll(s->send, err)) == 0) {
        if (source_poll(s, ram_send_fd(s->send), CLOCK_S, err) < 0 || check_moving(s, &watch, err) < 0) {
            return -1;
        }
    }
    if (finished < 0) {
        return -1;
    }
    learn(s, s->pass_pages);
    status_note(&s->status, &s->status.remaining, 0);
    events_emit(&s->events, "pass",
                json_pack("{s:i, s:I, s:I, s:f}", "pass", (int)s->status.passes, "pages", (json_int_t)s->pass_pages,
                          "transferred", (json_int_t)s->status.transferred, "ms",
                          (double)(clock_now() - s->pass_started) / 1e6));
    return 0;
}

int source_pass(struct source *s, struct error *err) {
    source_pass_begin(s);
    return source_pass_wait(s, err);
}
