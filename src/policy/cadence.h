/* SPDX-License-Identifier: Apache-2.0 */
/* How often the source looks, decides and begins a pass. A prediction does it as often. */
#ifndef GODWIT_POLICY_CADENCE_H
#define GODWIT_POLICY_CADENCE_H

#include "base/clock.h"

#include <stdbool.h>
#include <stdint.h>

/* Between two samples of what the guest writes within a pass. */
#define SAMPLE_INTERVAL (50 * CLOCK_MS)
/* Without samples: only timeouts, and an operator who forces the end. */
#define WATCH_INTERVAL (250 * CLOCK_MS)
/* A scan costs the guest a fault for each page that it writes again: no more than this part of the time is scanned. */
#define SCAN_SHARE 20
/* Each pass costs the guest a fault for each page that it writes again: tiny ones do not follow each other at once. */
#define PASS_INTERVAL (20 * CLOCK_MS)
/* What the destination may still have in its buffers and decoders of so many pages is worth a round trip to wait for.
 */
#define LARGE_PASS 8192

/* ns between two decisions within a pass. */
static inline int64_t cadence_interval(bool samples, int64_t scan_time) {
    int64_t least = SCAN_SHARE * scan_time;
    return !samples ? WATCH_INTERVAL : least > SAMPLE_INTERVAL ? least : SAMPLE_INTERVAL;
}

#endif
