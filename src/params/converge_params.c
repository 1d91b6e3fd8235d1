/* SPDX-License-Identifier: Apache-2.0 */
#include "params/converge_params.h"

#include "base/clock.h"

struct converge_config converge_params(const struct params *p) {
    const int64_t *value = p->value;
    return (struct converge_config){
        .policy = (enum converge_policy)value[PARAM_THROTTLE_POLICY],
        .trigger_threshold = (unsigned)value[PARAM_THROTTLE_TRIGGER_THRESHOLD],
        .initial = (unsigned)value[PARAM_CPU_THROTTLE_INITIAL],
        .increment = (unsigned)value[PARAM_CPU_THROTTLE_INCREMENT],
        .max = (unsigned)value[PARAM_MAX_CPU_THROTTLE],
        .downtime_limit = value[PARAM_DOWNTIME_LIMIT] * CLOCK_MS,
        .completion_timeout = value[PARAM_COMPLETION_TIMEOUT] * CLOCK_S,
        .progress_timeout = value[PARAM_PROGRESS_TIMEOUT] * CLOCK_S,
        .timeout_action = (enum converge_timeout)value[PARAM_TIMEOUT_ACTION],
    };
}
