/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel writes about the host's load, as text. A container's runtime may put its own files in place of the
 * kernel's, so it is parsed like anybody's text: each function is false, and fills nothing, when the text is not what
 * it should be. All take NUL-terminated text and are fuzzed.
 */
#ifndef GODWIT_HOST_PARSE_H
#define GODWIT_HOST_PARSE_H

#include "host/cpuset.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A file that is one number, or "max": UINT64_MAX (memory.max, cpuacct.usage). */
bool parse_amount(const char *text, uint64_t *value);

/* The number behind `name` at the beginning of a line ("MemTotal:", "usage_usec"), whatever its unit. */
bool parse_field(const char *text, const char *name, uint64_t *value);

/* The affinity in /proc/PID/status. */
bool parse_affinity(const char *text, struct cpuset *set);

/* /proc/stat: what the CPUs of `wanted` (NULL: all) that are online did since the start. */
struct host_ticks {
    struct cpuset cpus;   /* that were found */
    uint64_t idle, total; /* ticks, all these CPUs together; waiting for a disk is idle */
};
bool parse_ticks(const char *text, const struct cpuset *wanted, struct host_ticks *ticks);

/* A line ("some", "full") of /proc/pressure. */
struct host_pressure {
    double avg10;   /* percent of the time, mean over about 10 s */
    uint64_t total; /* us since the start */
};
bool parse_pressure(const char *text, const char *line, struct host_pressure *p);

/* cpu.max of cgroup v2 and the pair cpu.cfs_quota_us, cpu.cfs_period_us of v1: CPUs; INFINITY when there is no limit.
 */
bool parse_quota(const char *text, double *cpus);
bool parse_quota_v1(const char *quota, const char *period, double *cpus);

/* The group of /proc/self/cgroup in which `controller` (v1) or everything (v2, "") has us. */
bool parse_group(const char *text, const char *controller, char *path, size_t size);

/* The next line of /proc/self/mountinfo that is about a cgroup; *text is moved behind it. False: there is none. */
struct host_mount {
    char root[1024];  /* the group that is mounted; as written, without the escapes of odd names */
    char point[1024]; /* where */
    bool v2, cpu, memory;
};
bool parse_mount(const char **text, struct host_mount *mount);

#endif
