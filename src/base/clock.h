/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GODWIT_BASE_CLOCK_H
#define GODWIT_BASE_CLOCK_H

#include <stdint.h>

/* Monotonic nanoseconds; only differences mean anything. */
int64_t clock_now(void);
/* Nanoseconds since the epoch: for timestamps in reports. */
int64_t clock_wall(void);
/* CPU time of this process, all threads, in nanoseconds. */
int64_t clock_cpu(void);
/* CPU time of the calling thread. */
int64_t clock_thread_cpu(void);
void clock_sleep(int64_t ns);

#define CLOCK_MS INT64_C(1000000)
#define CLOCK_S INT64_C(1000000000)

#endif
