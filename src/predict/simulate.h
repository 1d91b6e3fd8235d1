/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A migration in a model: a guest of which a trace is known, a link, and the engine's own decisions
 * (policy/converge.h) and forecasts (policy/forecast.h). A pure function, tested on invented traces.
 *
 * Pages of the trace's sample are followed one by one: when each was written, when it was copied, whether the
 * destination has it. So a page that was written before the pass got to it costs the next pass a look and no bytes
 * (page-digests), and one that a cache holds costs its change (xbzrle-cache-size). Each stands for trace->scale pages.
 */
#ifndef GODWIT_PREDICT_SIMULATE_H
#define GODWIT_PREDICT_SIMULATE_H

#include "base/error.h"
#include "policy/converge.h"
#include "predict/trace.h"

#include <stdbool.h>
#include <stdint.h>

enum sim_content { SIM_HOLE, SIM_ZERO, SIM_DATA };

/* What a page costs, by what is sent of it. */
struct sim_cost {
    double bytes; /* on the wire */
    double ns; /* of the CPUs, all that work on it together: the source's or the destination's, whoever takes longer */
};

struct sim_guest {
    const struct trace *trace;
    const uint8_t *content; /* enum sim_content of each page of the sample, as a migration would begin with */
    uint64_t ram;           /* bytes */
    struct sim_cost zero, full, again, change, look; /* pass 1; later passes: in full, as a change, unchanged */
    double unchanged;     /* of the pages that are written, the part that is written with what it had */
    double changes;       /* of the others, the part that goes as a change when a cache has it */
    uint64_t cache_pages; /* of the guest, that the cache holds */
};

struct sim_setting {
    struct converge_config converge; /* `force` is not used */
    bool can_throttle;
    double wire_rate;                       /* bytes/s */
    int64_t offset;                         /* ns into the trace at which the migration begins */
    int64_t scan, drain, round_trip, setup; /* ns: each scan, drain of disks, round trip; before pass 1 */
    int64_t most;                           /* ns after which it is given up on */
};

struct sim_result {
    bool ends;                 /* within downtime-limit, or as timeout-action wants it */
    bool forced;               /* it ends by timeout-action only */
    int64_t total, downtime;   /* ns; of one that does not end: until it was given up, and 0 */
    int64_t held;              /* ns of the guest's work that it loses by being held back */
    double wire;               /* bytes */
    double remaining;          /* bytes of memory when it ended: at the stop, or given up */
    unsigned passes, throttle; /* percent at most */
    const char *reason;        /* of the last decision; static text */
};

/* Fails only without memory. */
int simulate(const struct sim_guest *guest, const struct sim_setting *setting, struct sim_result *result,
             struct error *err);

#endif
