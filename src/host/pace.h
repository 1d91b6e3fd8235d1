/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the workers of a migration, all of them together, within `cpu-budget` percent of one CPU, measured over about
 * 100 ms. A worker asks for its thread's CPU time before and after a batch and hands in the difference:
 *
 *     int64_t mark = clock_thread_cpu();
 *     ... read, digest, compress, send ...
 *     cpu_pace(pace, clock_thread_cpu() - mark);
 *
 * CPU time that was used can't be taken back, so it is booked afterwards, and the next batch is what waits. A cgroup
 * would do it without our help, but it needs a group of our own, which the host's manager may not give us.
 */
#ifndef GODWIT_HOST_PACE_H
#define GODWIT_HOST_PACE_H

#include "base/limit.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct cpu_pace {
    pthread_mutex_t lock; /* owns percent and lifted, and orders changes of the limit */
    unsigned percent;
    bool lifted;
    struct limit limit; /* of CPU nanoseconds */
};

/* `percent` of one CPU; 0: no limit. */
void cpu_pace_init(struct cpu_pace *p, unsigned percent);
void cpu_pace_destroy(struct cpu_pace *p);

/* The new rate holds from the next batch on; who waits at the old one goes on within 10 ms. Setting what is set already
 * changes nothing: no debt is forgiven by saying the same again. */
void cpu_pace_set(struct cpu_pace *p, unsigned percent);

/* While the guest stands still (the final pass) every wait is downtime: lifted, nobody waits and nothing is booked.
 * Back with false when the guest runs on. */
void cpu_pace_lift(struct cpu_pace *p, bool lifted);

/* The migration ends: nobody waits any more, within 10 ms and for good. */
void cpu_pace_end(struct cpu_pace *p);

/* Books what a batch took and sleeps as long as the budget says. Callable from all threads. */
void cpu_pace(struct cpu_pace *p, int64_t used_ns);

#endif
