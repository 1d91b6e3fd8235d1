/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limits that control groups set us: our own group's and those of all groups around it; the tightest counts.
 *
 * Both versions of cgroups and the mixture of them are found through mountinfo. We are in the groups in which we were
 * when they were opened: to be moved to another group while a migration runs is not followed.
 */
#ifndef GODWIT_HOST_CGROUP_H
#define GODWIT_HOST_CGROUP_H

#include <stdint.h>

struct host_text;
struct cgroup;

struct cgroup_limits {
    double cpus;     /* the least quota, in CPUs; INFINITY: none */
    double cpu_idle; /* what the groups with a quota leave unused of it, in CPUs: others may be in them; INFINITY: no
                        quota */
    uint64_t
        memory; /* bytes that may still be allocated, page cache that can be dropped included; UINT64_MAX: no limit */
};

/* `root` is put in front of every path. `text` is lent until cgroup_close(). NULL when there is no memory. */
struct cgroup *cgroup_open(const char *root, struct host_text *text);
void cgroup_close(struct cgroup *c);

/* `now` in ns on a monotonic clock; `own`: CPUs that this process uses, which is what a group is taken to use where
 * it does not say (and the first time). What can't be read limits nothing. */
void cgroup_read(struct cgroup *c, int64_t now, double own, struct cgroup_limits *limits);

#endif
