/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   pass n   scan: what was written since the last pass's scan becomes dirty
 *            tick, tick, …: the guest writes its share of the tick; pages are copied, in order, as the link carries
 *                           them; in between samples and decisions, as migrate/source_converge.c makes them
 *            the end: scan, decision
 */
#include "predict/simulate.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "policy/cadence.h"
#include "policy/forecast.h"

#include <stdlib.h>
#include <string.h>

/* Short passes need a short one; of a long one it is a small part. */
#define TICK (5 * CLOCK_MS)
#define LONGEST_TICK (50 * CLOCK_MS)
#define TICK_PART 100
#define PAGE 4096.0

enum { HAS = 1, OFTEN = 2, CACHED = 4 }; /* the destination has it; sent more than once; the cache has it too */

struct page {
    int64_t written, copied; /* ns; 0: never */
    uint32_t look;           /* the last one that found it written */
    uint8_t content, state;
};

struct sim {
    const struct sim_guest *guest;
    const struct sim_setting *setting;
    uint32_t count; /* pages */
    struct page *pages;
    uint64_t *dirty, *written; /* to be sent by this pass; found for the next one */
    uint32_t dirty_left, written_count, cached;
    struct trace_replay replay;

    int64_t now;
    uint32_t cursor;   /* where the pass is */
    double owed;       /* ns that pages copied took beyond the time there was */
    unsigned throttle; /* percent */
    uint32_t look, look_pages;
    int64_t looked_at, decided_at, scanned_at;
    unsigned pass;
    int64_t pass_at;
    double pass_wire_ns, pass_cpu_ns;
    uint32_t pass_pages; /* dirty at its beginning */
    struct forecast_pass sent;
    double sent_bytes;
    struct forecast forecast;
    struct converge_state state;
    struct converge_decision decision;
    struct sim_result *result;
};

static void write_page(void *opaque, uint32_t i) {
    struct sim *s = opaque;
    struct page *p = &s->pages[i];
    p->written = s->now;
    p->content = SIM_DATA;
    if (p->look != s->look) {
        p->look = s->look;
        s->look_pages++;
    }
    if (!bits_test(s->written, i)) {
        bits_set(s->written, i);
        s->written_count++;
    }
}

/* The guest runs for its share of so much time. */
static void run_guest(struct sim *s, int64_t time) {
    int64_t share = time * (100 - (int64_t)s->throttle) / 100;
    s->now += time;
    s->result->held += time - share;
    trace_replay(&s->replay, share, write_page, s);
}

/* The same for all that a page is in a pass: which of the costs. */
static const struct sim_cost *sort_page(struct sim *s, uint32_t i) {
    const struct sim_guest *g = s->guest;
    struct page *p = &s->pages[i];
    if (p->content != SIM_DATA) {
        return &g->zero;
    }
    if ((p->state & HAS) == 0) {
        return &g->full;
    }
    /* Which pages are written with what they had is not known: a part of them, always another. */
    bool same =
        p->written <= p->copied || (double)((i * 2654435761u + s->pass * 40503u) >> 16 & 1023) < g->unchanged * 1024;
    if (same) {
        return &g->look;
    }
    if ((p->state & CACHED) != 0) {
        return &g->change;
    }
    return &g->again;
}

static void enter_cache(struct sim *s, struct page *p, uint32_t i) {
    bool room = ((double)s->cached + 1) * s->guest->trace->scale <= (double)s->guest->cache_pages;
    bool small = (double)(i * 2246822519u >> 22) < s->guest->changes * 1024;
    if ((p->state & (HAS | CACHED)) == HAS && room && small) {
        p->state |= CACHED;
        s->cached++;
    }
}

/* Copies the page; ns that it takes of the pass. */
static double copy_page(struct sim *s, uint32_t i) {
    struct page *p = &s->pages[i];
    const struct sim_cost *cost = sort_page(s, i);
    double scale = s->guest->trace->scale;
    if (cost == &s->guest->zero) {
        s->sent.zeros += (uint64_t)(scale + 0.5);
    } else {
        s->sent.pages += (uint64_t)(scale + 0.5);
    }
    if (cost == &s->guest->look) {
        s->sent.unchanged += (uint64_t)(scale + 0.5);
    }
    if (cost == &s->guest->again) {
        enter_cache(s, p, i);
    }
    if (p->content == SIM_DATA) {
        p->state |= HAS;
    }
    p->copied = s->now;
    s->sent_bytes += cost->bytes * scale;
    double wire = cost->bytes * scale * 1e9 / s->setting->wire_rate, cpu = cost->ns * scale;
    s->pass_wire_ns += wire;
    s->pass_cpu_ns += cpu;
    return wire > cpu ? wire : cpu;
}

/* True when all pages of the pass were copied. */
static bool copy_pages(struct sim *s, int64_t time) {
    double left = (double)time - s->owed;
    while (left > 0 && s->cursor < s->count) {
        s->cursor = (uint32_t)bits_next_set(s->dirty, s->cursor, s->count);
        if (s->cursor < s->count) {
            left -= copy_page(s, s->cursor);
            bits_clear(s->dirty, s->cursor++);
            s->dirty_left--;
        }
    }
    s->owed = left < 0 ? -left : 0;
    return s->cursor >= s->count && left >= 0;
}

static uint64_t bytes_of(const struct sim *s, uint32_t pages) {
    return (uint64_t)((double)pages * s->guest->trace->scale * PAGE);
}

/* Percent that the guest is held back by when it is to hear of the stop. */
static unsigned eased(const struct sim *s) {
    return s->throttle < FORECAST_EASED ? s->throttle : FORECAST_EASED;
}

/* As source_converge.c measures. */
static void decide(struct sim *s, bool pass_ended, bool sampled) {
    const struct forecast *f = &s->forecast;
    int64_t interval = s->now - s->looked_at;
    struct converge_input in = {
        .now = s->now,
        .started = 0,
        .ram = s->guest->ram,
        .remaining = bytes_of(s, s->dirty_left + (pass_ended ? 0 : s->written_count)),
        .wire_rate = forecast_rate(f),
        .ratio = forecast_ratio(f),
        .dirty_rate = sampled && interval > 0 ? (double)bytes_of(s, s->look_pages) * 1e9 / (double)interval : -1,
        .dirty_interval = interval,
        .pass = s->pass,
        .pass_ended = pass_ended,
        .pass_sent = bytes_of(s, s->pass_pages),
        .pass_dirtied = bytes_of(s, s->dirty_left),
        .pass_time = s->now - s->pass_at,
        .throttle = s->throttle,
        .can_throttle = s->setting->can_throttle,
        .overhead = forecast_overhead(f),
    };
    if (pass_ended && in.dirty_rate > 0) {
        double freely = in.dirty_rate * 100 / (double)(100 - s->throttle);
        in.remaining += (uint64_t)forecast_growth(f, freely, eased(s));
    }
    converge_step(&s->setting->converge, &in, &s->state, &s->decision);
    s->decided_at = s->now;
    if (s->decision.action == CONVERGE_GO_ON) {
        s->throttle = s->decision.throttle;
        s->result->throttle = s->throttle > s->result->throttle ? s->throttle : s->result->throttle;
    }
}

static void begin_look(struct sim *s) {
    s->looked_at = s->now;
    s->look++;
    s->look_pages = 0;
}

static void decide_within(struct sim *s) {
    bool samples = s->setting->converge.policy == CONVERGE_RATE && s->setting->can_throttle && s->pass > 1;
    int64_t interval = cadence_interval(samples, s->setting->scan);
    int64_t since = s->looked_at > s->decided_at ? s->looked_at : s->decided_at;
    if (s->now - since < interval) {
        return;
    }
    decide(s, false, samples);
    if (samples) {
        begin_look(s);
    }
}

/* What was written becomes dirty. */
static void scan(struct sim *s) {
    for (size_t i = 0; i < bits_words(s->count); i++) {
        s->dirty[i] |= s->written[i];
        s->written[i] = 0;
    }
    s->dirty_left = (uint32_t)bits_count(s->dirty, s->count);
    s->written_count = 0;
    s->scanned_at = s->now;
    forecast_note_scan(&s->forecast, s->now);
}

static void begin_pass(struct sim *s) {
    s->pass++;
    s->pass_at = s->now;
    s->pass_pages = s->dirty_left;
    s->cursor = 0;
    s->owed = 0;
    s->pass_wire_ns = s->pass_cpu_ns = s->sent_bytes = 0;
    s->sent = (struct forecast_pass){ 0 };
}

static void end_pass(struct sim *s) {
    s->sent.sent = s->sent.delivered = (uint64_t)s->sent_bytes;
    s->sent.time = s->now - s->pass_at;
    s->sent.link_bound = s->pass_wire_ns >= s->pass_cpu_ns;
    forecast_note_pass(&s->forecast, &s->sent);
    s->result->wire += s->sent_bytes;
}

static bool goes_on(const struct sim *s) {
    return s->decision.action == CONVERGE_GO_ON && s->now < s->setting->most;
}

static bool given_up(const struct sim *s) {
    return s->decision.action == CONVERGE_GIVE_UP || s->now >= s->setting->most;
}

static int64_t tick_of(const struct sim *s) {
    int64_t tick = (s->now - s->pass_at) / TICK_PART;
    return tick < TICK ? TICK : tick < LONGEST_TICK ? tick : LONGEST_TICK;
}

static void run_pass(struct sim *s) {
    bool copied = false;
    begin_pass(s);
    while (!copied && !given_up(s)) { /* an end that is decided within a pass is at that pass's end */
        int64_t tick = tick_of(s);
        run_guest(s, tick);
        copied = copy_pages(s, tick);
        decide_within(s);
    }
    end_pass(s);
    int64_t left = s->scanned_at + PASS_INTERVAL - s->now;
    run_guest(s, (left > 0 ? left : 0) + s->setting->drain + s->setting->scan);
}

static void look_and_decide(struct sim *s) {
    scan(s);
    decide(s, true, true);
    begin_look(s);
}

/* The guest stands still: what remains is sent. */
static void stop(struct sim *s) {
    int64_t overhead = forecast_overhead(&s->forecast);
    double ns = 0;
    s->throttle = eased(s);
    run_guest(s, forecast_stop(&s->forecast, s->throttle));
    scan(s);
    s->result->remaining = (double)bytes_of(s, s->dirty_left);
    begin_pass(s);
    for (uint64_t i = bits_next_set(s->dirty, 0, s->count); i < s->count;
         i = bits_next_set(s->dirty, i + 1, s->count)) {
        ns += copy_page(s, (uint32_t)i);
    }
    s->result->wire += s->sent_bytes;
    s->result->downtime = ns < (double)s->setting->most ? overhead + (int64_t)ns : s->setting->most;
    s->now += s->result->downtime;
    s->result->ends = true;
    s->result->forced = s->decision.action == CONVERGE_FORCE;
}

static void migrate(struct sim *s) {
    bool placed = false;
    scan(s);
    begin_look(s);
    while (goes_on(s)) {
        run_pass(s);
        placed = placed && s->pass_pages * s->guest->trace->scale < LARGE_PASS;
        while (!given_up(s)) {
            look_and_decide(s);
            bool ends = s->decision.action == CONVERGE_STOP || s->decision.action == CONVERGE_FORCE;
            if (!ends || placed) {
                break;
            }
            /* The destination is waited for once, and the guest runs meanwhile. */
            placed = true;
            s->decision.action = CONVERGE_GO_ON;
            run_guest(s, s->setting->round_trip + s->setting->scan);
        }
    }
    if (s->decision.action == CONVERGE_STOP || s->decision.action == CONVERGE_FORCE) {
        stop(s);
    } else {
        scan(s); /* what waits and what was written, each page once */
        s->result->remaining = (double)bytes_of(s, s->dirty_left);
    }
    s->result->total = s->now;
    s->result->passes = s->pass;
    s->result->reason = s->now < s->setting->most || s->result->ends ? s->decision.reason : "it takes too long";
}

static int prepare(struct sim *s, struct error *err) {
    s->pages = calloc(s->count, sizeof(*s->pages));
    s->dirty = calloc(bits_words(s->count), sizeof(*s->dirty));
    s->written = calloc(bits_words(s->count), sizeof(*s->written));
    if (s->pages == NULL || s->dirty == NULL || s->written == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory for a simulation");
    }
    for (uint32_t i = 0; i < s->count; i++) {
        s->pages[i].content = s->guest->content[i];
        if (s->guest->content[i] != SIM_HOLE) {
            bits_set(s->dirty, i);
        }
    }
    forecast_init(&s->forecast);
    s->forecast.scan = s->setting->scan;
    s->forecast.drain = s->setting->drain;
    s->forecast.round_trip = s->setting->round_trip;
    s->now = s->setting->setup > 0 ? s->setting->setup : 1;
    return 0;
}

int simulate(const struct sim_guest *guest, const struct sim_setting *setting, struct sim_result *result,
             struct error *err) {
    struct sim s = { .guest = guest, .setting = setting, .count = guest->trace->pages, .result = result };
    *result = (struct sim_result){ .reason = "" };
    int rc = trace_replay_begin(&s.replay, guest->trace, setting->offset, err);
    if (rc == 0) {
        rc = prepare(&s, err);
    }
    if (rc == 0) {
        migrate(&s);
    }
    trace_replay_end(&s.replay);
    free(s.pages);
    free(s.dirty);
    free(s.written);
    return rc;
}
