/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the guest is held back and when it is stopped: what is measured for it, the decisions, and what they do
 * (source_converge.c); which hot segments wait meanwhile (source_defer.c). The main thread's, but for `force`.
 */
#ifndef GODWIT_MIGRATE_HOLDER_H
#define GODWIT_MIGRATE_HOLDER_H

#include "hold/throttle.h"
#include "loop/loop.h"
#include "migrate/deferral.h"
#include "policy/converge.h"
#include "policy/forecast.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct holder {
    struct forecast forecast;
    struct converge_state converge;
    json_t *converge_config; /* as events were told last; NULL: not yet */
    struct holder_throttle {
        struct throttle *actuator;   /* NULL: the guest can't be held back */
        unsigned percent;            /* in force */
        int64_t decided_at;          /* clock_now() of the last look after it */
        struct loop_deadline expiry; /* when it is looked whether a quota has gone stale */
    } throttle;
    int64_t decided_at; /* clock_now() of the last decision within a pass */
    _Atomic bool force; /* somebody wants the switchover now */
    bool force_offered;
    struct dirty_rate {
        int64_t at;       /* clock_now() of the scan that it was measured by, a sample maybe */
        uint64_t found;   /* pages, by scans since then */
        uint64_t pages;   /* what it was measured by: so many were found written, ... */
        int64_t interval; /* ... in so many ns */
    } rate;
    struct deferral deferral;
};

/* Threads that a quota holds wait for a CPU, by the kernel's count: whether that is so now. */
static inline bool holder_by_quota(const struct holder *h) {
    const struct holder_throttle *t = &h->throttle;
    return t->actuator != NULL && t->percent > 0 && throttle_kind(t->actuator) == THROTTLE_QUOTA;
}

#endif
