/* SPDX-License-Identifier: Apache-2.0 */
/* What a sample comes to: the link's rate, what fits into a pause, how long the pause would be. Below the policies and
 * what they have in common, for both ask it. */
#include "policy/converge_policy.h"

#include <math.h>

double converge_link_rate(const struct converge_input *in) {
    double ratio = isfinite(in->ratio) && in->ratio > 0 ? in->ratio : 1;
    return isfinite(in->wire_rate) && in->wire_rate > 0 ? in->wire_rate / ratio : 0;
}

/* What else the switchover takes may alone be more than downtime-limit: a link around the world, a slow disk to drain.
 * No throttle helps against that, and a guest that is never moved is worse than a pause that is a little longer. */
#define LEAST_BUDGET 4 /* part of downtime-limit that the sending has, whatever else there is */

int64_t converge_budget(const struct converge_config *config, const struct converge_input *in) {
    int64_t left = config->downtime_limit - in->overhead, least = config->downtime_limit / LEAST_BUDGET;
    return left > least ? left : least;
}

double converge_fits(const struct converge_config *config, const struct converge_input *in) {
    return converge_link_rate(in) * converge_seconds(converge_budget(config, in));
}

int64_t converge_downtime(const struct converge_input *in) {
    if (in->remaining == 0) {
        return in->overhead;
    }
    double rate = converge_link_rate(in);
    double ns = rate > 0 ? (double)in->remaining / rate * 1e9 + (double)in->overhead : INFINITY;
    return ns < 0x1p63 ? (int64_t)ns : INT64_MAX;
}
