/* SPDX-License-Identifier: Apache-2.0 */
/* What the host can spare for a migration, and the plan that follows from it (source_plan.c); the main thread's. */
#ifndef GODWIT_MIGRATE_MEANS_H
#define GODWIT_MIGRATE_MEANS_H

#include "host/load.h"
#include "host/pace.h"
#include "host/waiting.h"
#include "loop/loop.h"
#include "policy/plan.h"

#include <stdint.h>

struct means {
    struct host_meter *meter;
    struct host_waiting waiting;
    struct cpu_pace pace;       /* follows cpu-budget */
    struct plan plan;           /* in force */
    int64_t planned_at;         /* clock_now() */
    struct loop_deadline again; /* when it is looked at again */
};

#endif
