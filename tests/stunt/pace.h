/* SPDX-License-Identifier: Apache-2.0 */
/* How fast a thread may write: pages to do now, or how long to wait. */
#ifndef STUNT_PACE_H
#define STUNT_PACE_H

#include "load.h"

struct pace {
    int64_t last;  /* clock_now() at the last look */
    double credit; /* pages that may be written */
};

void pace_begin(struct pace *pace);
/* Pages that may be written before the next call; for 0 *wait_ns is how long to wait. Keeps plan->run_ns. */
unsigned pace_take(struct pace *pace, const struct load *load, struct plan *plan, int64_t *wait_ns);
void pace_end(struct pace *pace, struct plan *plan);

#endif
