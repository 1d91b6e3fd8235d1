/* SPDX-License-Identifier: Apache-2.0 */
/* What it takes to let hot segments wait (source_defer.c); the main thread's. */
#ifndef GODWIT_MIGRATE_DEFERRAL_H
#define GODWIT_MIGRATE_DEFERRAL_H

#include "ram/heat.h"

#include <stdbool.h>
#include <stdint.h>

struct deferral {
    struct heat heat;  /* all zeros: ram-segment-size is 0 */
    uint64_t *waiting; /* a bit per chunk: chosen to wait */
    uint64_t *passed;  /* a bit per chunk: did */
    uint64_t dirty;    /* pages, when the pass began */
    bool learns;       /* the running look notes heat: something may wait at all */
    bool on;           /* in the running pass */
    int64_t sample_at; /* clock_now() at which heat is sampled next, when nobody else samples */
};

#endif
