/* SPDX-License-Identifier: Apache-2.0 */
#include "params/plan_params.h"

static int64_t or_zero(int64_t value) {
    return value == PARAM_AUTO ? 0 : value;
}

struct plan_input plan_params(const struct params *p) {
    const int64_t *value = p->value;
    return (struct plan_input){
        .cpu_budget = (unsigned)or_zero(value[PARAM_CPU_BUDGET]),
        .memory_budget = (uint64_t)or_zero(value[PARAM_MEMORY_BUDGET]),
        .compress_threads = value[PARAM_COMPRESS_THREADS] == PARAM_AUTO ? PLAN_AUTO : value[PARAM_COMPRESS_THREADS],
        .decompress_threads = PLAN_AUTO,
        .delta_cache = value[PARAM_XBZRLE_CACHE_SIZE] == PARAM_AUTO ? PLAN_DELTA_AUTO : value[PARAM_XBZRLE_CACHE_SIZE],
        .pages_per_batch = (unsigned)value[PARAM_PAGES_PER_BATCH],
    };
}
