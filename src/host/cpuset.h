/* SPDX-License-Identifier: Apache-2.0 */
/* Sets of CPUs: the lists that people and the kernel write ("0-3,8"), and the affinity of threads. */
#ifndef GODWIT_HOST_CPUSET_H
#define GODWIT_HOST_CPUSET_H

#include "base/bits.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The most that Linux can be built for on x86. glibc's cpu_set_t ends at 1024. */
#define CPUSET_CPUS 8192

struct cpuset {
    uint64_t bits[CPUSET_CPUS / 64];
};

/* Room for the text of any set that has up to a few hundred ranges. */
#define CPUSET_TEXT 1024

static inline bool cpuset_has(const struct cpuset *set, unsigned cpu) {
    return cpu < CPUSET_CPUS && bits_test(set->bits, cpu);
}

static inline unsigned cpuset_count(const struct cpuset *set) {
    return (unsigned)bits_count(set->bits, CPUSET_CPUS);
}

/* Numbers and ranges with commas between them, nothing else, at least one CPU. On error `set` is as it was. */
int cpuset_parse(const char *text, struct cpuset *set, struct error *err);

/* Writes the list, cut at a comma and ended by ",..." where it does not fit; `size` at least 8. Returns `to`. */
char *cpuset_format(const struct cpuset *set, char *to, size_t size);

/* The affinity of a thread (0: the calling one). */
int cpuset_get(pid_t tid, struct cpuset *set, struct error *err);

/* Ties a thread (0: the calling one) to the CPUs of `set`; threads that it starts from then on inherit it. The kernel
 * silently drops CPUs that are not there, are offline or are outside our cpuset cgroup: here that is refused with the
 * first such CPU's name, and the thread keeps the affinity that it had. */
int cpuset_apply(pid_t tid, const struct cpuset *set, struct error *err);

#endif
