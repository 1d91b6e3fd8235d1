/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hot segments wait (row C7, off by default): before a pass, and again whenever a sample within it has told more, the
 * hottest segments are taken out of it, up to ram-delay-save-percent of RAM.
 *
 * What waits stays dirty, and that is all: the next scan counts it as remaining, the next pass has it, and the final
 * pass, which nothing is taken out of, too.
 *
 * No more than a part of what is dirty waits, so each pass sends the rest: passes do not become empty when nothing but
 * hot memory is left, and what remains falls by whatever the guest does not write again.
 */
#include "migrate/source.h"

#include "base/bits.h"
#include "base/clock.h"

#include <stdlib.h>

/* Of what is dirty that much may wait. */
#define MOST_WAITING 2
/* With less than this part of RAM to send nothing waits. */
#define LITTLE 10
/* Heat is sampled so long after a pass has begun, and then as often as costs no more than this part of the time: the
 * scan, and a fault of the guest for each page that it writes again. */
#define FIRST_SAMPLE (25 * CLOCK_MS)
#define COST_SHARE 20
#define FAULT_COST INT64_C(2000) /* ns */

int source_defer_open(struct source *s, struct error *err) {
    struct deferral *d = &s->holder.deferral;
    uint64_t size = (uint64_t)source_param(s, PARAM_RAM_SEGMENT_SIZE);
    if (size == 0) {
        return 0;
    }
    if (heat_open(&d->heat, &s->sender.ram, size, err) < 0) {
        return -1;
    }
    d->waiting = calloc(bits_words(d->heat.chunks), sizeof(d->waiting[0]));
    d->passed = calloc(bits_words(d->heat.chunks), sizeof(d->passed[0]));
    return d->waiting != NULL && d->passed != NULL ? 0 : error_set(err, ERROR_SYSTEM, "no memory for hot segments");
}

void source_defer_close(struct source *s) {
    heat_close(&s->holder.deferral.heat);
    free(s->holder.deferral.waiting);
    free(s->holder.deferral.passed);
}

void source_defer_look(struct source *s, int64_t ns) {
    struct deferral *d = &s->holder.deferral;
    d->learns = d->heat.count > 0 && source_param(s, PARAM_RAM_DELAY_SAVE_PERCENT) > 0;
    if (d->learns) {
        heat_age(&d->heat, ns);
    }
}

void source_defer_heat(struct source *s, uint16_t block, uint64_t first, uint64_t end) {
    if (s->holder.deferral.learns) {
        heat_note(&s->holder.deferral.heat, block, first, end);
    }
}

/* Percent of RAM that may wait now. While the guest is held back for what is still to be sent all of it goes: it is not
 * hot any more, and each moment that it waits is the guest's. */
static uint64_t share(struct source *s) {
    return s->holder.throttle.percent > 0 ? 0 : (uint64_t)source_param(s, PARAM_RAM_DELAY_SAVE_PERCENT);
}

static void choose(struct source *s) {
    struct deferral *d = &s->holder.deferral;
    struct heat_limits limits = { .chunks = d->heat.chunks * share(s) / 100, .dirty = d->dirty / MOST_WAITING };
    heat_choose(&d->heat, &limits, d->passed, d->waiting);
    ram_send_set_waiting(s->sender.send, d->waiting);
}

void source_defer_begin(struct source *s) {
    struct deferral *d = &s->holder.deferral;
    if (d->heat.count == 0) {
        return;
    }
    d->dirty = share(s) > 0 ? heat_count(&d->heat) : 0;
    d->on = d->dirty > 0 && d->dirty >= ram_pages(&s->sender.ram) / LITTLE;
    d->sample_at = d->on ? clock_now() + FIRST_SAMPLE : INT64_MAX;
    bits_clear_range(d->passed, 0, d->heat.chunks);
    bits_clear_range(d->waiting, 0, d->heat.chunks);
    if (d->on) {
        choose(s);
    } else {
        ram_send_set_waiting(s->sender.send, d->waiting);
    }
}

void source_defer_within(struct source *s) {
    struct deferral *d = &s->holder.deferral;
    if (d->on) {
        ram_send_get_passed(s->sender.send, d->passed);
        choose(s);
    }
}

int64_t source_defer_wait(const struct source *s) {
    int64_t left = s->holder.deferral.sample_at - clock_now();
    return !s->holder.deferral.on ? INT64_MAX : left > 0 ? left : 0;
}

void source_defer_sampled(struct source *s, uint64_t found) {
    int64_t gap = COST_SHARE * (s->sender.view.scan_time + (int64_t)found * FAULT_COST);
    s->holder.deferral.sample_at = clock_now() + (gap > FIRST_SAMPLE ? gap : FIRST_SAMPLE);
}
