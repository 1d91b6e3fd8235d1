/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/forecast.h"

#include "base/clock.h"

#define PAGE 4096.0
/* A pass of fewer pages says more of the round trip than of its pages. */
#define SMALL_PASS 256
/* A pass that is worth that much is taken for what comes next by itself; a smaller one in part. */
#define WHOLE_PASS 8192
#define LOOK_PART 0.2 /* of what a page costs that is sent: to find that it need not be */
#define MOST_UNCHANGED 0.95
/* Less than this was perhaps only buffers that emptied. */
#define LEAST_DELIVERED (256.0 * 1024)
#define LEAST_TIME (10 * CLOCK_MS)
/* Before anything was measured. */
#define FIRST_ROUND_TRIP CLOCK_MS
/* The stop of the vCPUs, saving and loading of device state, the run: what a VMM takes for it is not to be known
 * before, but it is a dozen of its commands and events, and the drain is one that was timed. So a VMM that is slow to
 * answer, or on a busy host, is expected to be slow here as well. A disk that is slow to drain says nothing of it. */
#define VMM_COMMANDS 12
#define VMM_LEAST CLOCK_MS
#define VMM_MOST (30 * CLOCK_MS)
#define VMM_UNKNOWN (15 * CLOCK_MS)
#define STOP_HELD (20 * CLOCK_MS) /* that much later a guest that is held back stands still */
/* From the stop to the run: device state begins, it is loaded, the guest runs. */
#define ROUND_TRIPS 3

/* A drain that met a busy disk, a round trip that met a full queue: the next may not. The least of late is what is
 * always there; it grows by a part, so that what has become slower shows in time. */
void forecast_note_least(int64_t *least, int64_t ns) {
    int64_t grown = *least + *least / 4 + CLOCK_MS / 4;
    *least = *least == 0 || ns < grown ? ns : grown;
}

void forecast_init(struct forecast *f) {
    *f = (struct forecast){ .ratio = 1.0 };
}

static void mean(double *m, double value, double weight) {
    *m += weight * (value - *m);
}

static void learn_wire(struct forecast *f, const struct forecast_pass *p) {
    if ((double)p->delivered < LEAST_DELIVERED || p->time < LEAST_TIME) {
        return;
    }
    double rate = (double)p->delivered * 1e9 / (double)p->time;
    if (f->wire_rate <= 0 || (!p->link_bound && rate > f->wire_rate)) {
        f->wire_rate = rate;
    } else if (p->link_bound) {
        mean(&f->wire_rate, rate, 0.5);
    }
}

static void learn_pages(struct forecast *f, const struct forecast_pass *p) {
    double changed = (double)(p->pages - p->unchanged), looks = (double)(p->zeros + p->unchanged);
    double time = (double)(p->time > f->floor ? p->time - f->floor : 0);
    time *= changed / (changed + LOOK_PART * looks);
    if (f->wire_rate > 0 && (double)p->sent * 1e9 / f->wire_rate > time) {
        time = (double)p->sent * 1e9 / f->wire_rate;
    }
    double ns = time / changed, ratio = (double)p->sent / (changed * PAGE);
    double weight = changed < WHOLE_PASS ? 0.3 + 0.7 * changed / WHOLE_PASS : 1.0;
    weight = f->page_ns > 0 ? weight : 1.0;
    mean(&f->page_ns, ns, weight);
    mean(&f->ratio, ratio > 0.001 ? ratio : 0.001, weight);
}

void forecast_note_pass(struct forecast *f, const struct forecast_pass *p) {
    uint64_t changed = p->pages - p->unchanged;
    learn_wire(f, p);
    if (changed >= SMALL_PASS || (changed > 0 && f->page_ns <= 0)) {
        learn_pages(f, p);
    }
    f->unchanged = p->pages > 0 ? (double)p->unchanged / (double)p->pages : 0;
    f->unchanged_copying = f->copying;
    f->pass_time = p->time;
    f->passed = true;
    if (p->pages + p->zeros < SMALL_PASS && (f->floor == 0 || p->time < f->floor)) {
        f->floor = p->time;
    }
}

void forecast_note_scan(struct forecast *f, int64_t now) {
    if (f->passed) {
        f->window = f->scanned;
        f->passed = false;
    }
    f->scanned = now;
    double window = (double)(now - f->window), copying = window > 0 ? (double)f->pass_time / window : 1;
    f->copying = copying < 1 ? copying : 1;
}

/* The part of what is dirty now that has not changed. What did not change for another reason than when it was copied,
 * a guest that writes what is there already, stays as it was. */
static double unchanged_now(const struct forecast *f) {
    double by_order = f->unchanged < f->unchanged_copying ? f->unchanged : f->unchanged_copying;
    double part = f->unchanged - by_order;
    if (by_order > 0) {
        part += by_order * f->copying / f->unchanged_copying;
    }
    return part < MOST_UNCHANGED ? part : MOST_UNCHANGED;
}

static double page_ns_now(const struct forecast *f) {
    return f->page_ns * (1 - (1 - LOOK_PART) * unchanged_now(f));
}

double forecast_ratio(const struct forecast *f) {
    return f->ratio * (1 - unchanged_now(f));
}

/* Taken for granted until a pass has taught better, which takes a page. */
#define UNKNOWN_RATE 12.5e6

double forecast_rate(const struct forecast *f) {
    double by_cpu = f->page_ns > 0 ? forecast_ratio(f) * PAGE * 1e9 / page_ns_now(f) : 0;
    double rate = by_cpu > 0 && (by_cpu < f->wire_rate || f->wire_rate <= 0) ? by_cpu : f->wire_rate;
    return rate > 0 ? rate : UNKNOWN_RATE;
}

int64_t forecast_sending(const struct forecast *f, uint64_t pages, uint64_t queued) {
    double ns = (double)pages * page_ns_now(f);
    if (f->wire_rate > 0) {
        ns += (double)queued * 1e9 / f->wire_rate;
    }
    return (int64_t)ns;
}

static int64_t vmm_time(const struct forecast *f) {
    int64_t time = f->drain > 0 ? VMM_LEAST + VMM_COMMANDS * f->drain : VMM_UNKNOWN;
    return time < VMM_MOST ? time : VMM_MOST;
}

int64_t forecast_stop(const struct forecast *f, unsigned throttle) {
    return vmm_time(f) / 2 + (throttle > 0 ? STOP_HELD : 0);
}

double forecast_growth(const struct forecast *f, double free_rate, unsigned throttle) {
    return free_rate * (double)(100 - throttle) / 100 * (double)forecast_stop(f, throttle) / 1e9;
}

int64_t forecast_overhead(const struct forecast *f) {
    int64_t round_trip = f->round_trip > 0 ? f->round_trip : FIRST_ROUND_TRIP;
    return vmm_time(f) + f->scan + f->drain + f->floor + ROUND_TRIPS * round_trip;
}
