/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long the guest will stand still if it is stopped now, learned from this migration alone: what a pass costs, what
 * the link carries, what the VMM takes to drain and we to scan. A pure accumulator, tested without a guest.
 *
 * A pass seems fast while the sockets swallow it, so time is never counted shorter than what was sent takes at the rate
 * at which the peer acknowledged.
 *
 * A page that was written before its turn in one pass, and not after it, is dirty in the next and has not changed: it
 * costs a look. There are many of those behind a long pass and few behind a short one, whose time is mostly the wait
 * for the next. So what a changed page costs and how many do not change are learned apart, and the latter goes with the
 * part of the time between two scans in which pages were copied.
 */
#ifndef GODWIT_POLICY_FORECAST_H
#define GODWIT_POLICY_FORECAST_H

#include <stdbool.h>
#include <stdint.h>

/* What a pass did. */
struct forecast_pass {
    uint64_t pages;     /* of 4 KiB, that took anything to send: not zero, not in a hole */
    uint64_t sent;      /* bytes given to the sockets */
    uint64_t delivered; /* bytes that the peer acknowledged meanwhile, of this pass or of before */
    int64_t time;       /* ns */
    bool link_bound;    /* the link, and not a CPU, was what it waited for */
    uint64_t zeros;     /* pages that were looked at and found to be zero */
    uint64_t unchanged; /* of `pages`: the peer has what they hold */
};

struct forecast {
    double wire_rate;         /* bytes/s that the link carries; 0: not known */
    double page_ns;           /* for each changed page beyond the first; 0: not known */
    double ratio;             /* bytes on the wire for each byte of changed memory */
    double unchanged;         /* of the last pass's pages, the part that had not changed, */
    double unchanged_copying; /* and `copying` of that pass */
    double copying;           /* part of the time between scans in which pages that are dirty now were copied */
    int64_t pass_time, window, scanned; /* of the last pass; when its scan was; when the last scan was */
    bool passed;                        /* a pass since the last scan */
    int64_t floor;                      /* ns that a pass takes however small it is */
    int64_t scan, drain, round_trip;    /* ns, the least of each of late; 0: not known */
};

void forecast_init(struct forecast *f);
void forecast_note_pass(struct forecast *f, const struct forecast_pass *pass);

/* A scan that makes pages dirty, at clock_now(). */
void forecast_note_scan(struct forecast *f, int64_t now);

/* Takes a measure of the scan, the drain or the round trip. */
void forecast_note_least(int64_t *least, int64_t ns);

/* Bytes on the wire for each byte of what is dirty now. */
double forecast_ratio(const struct forecast *f);
/* Bytes/s on the wire at which pages are really sent: the link's, or less where a CPU is what they wait for. Never 0.
 */
double forecast_rate(const struct forecast *f);
/* ns from the stop until `pages` are in place when `queued` bytes are still on their way. Does not count what a stop
 * costs whatever there is to send: forecast_overhead(). */
int64_t forecast_sending(const struct forecast *f, uint64_t pages, uint64_t queued);
int64_t forecast_overhead(const struct forecast *f);
/* A guest that is held back hears of the stop only in its share of the time: it is eased to FORECAST_EASED percent
 * until then. */
#define FORECAST_EASED 90
#define FORECAST_EASED_QUOTA 50 /* a quota's periods may be long */
/* ns from the word to stop until a guest that is held back by `throttle` percent stands still. */
int64_t forecast_stop(const struct forecast *f, unsigned throttle);
/* Bytes that it writes meanwhile when it would write so many a second running freely. */
double forecast_growth(const struct forecast *f, double free_rate, unsigned throttle);

#endif
