/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A control group that holds some threads of a process and nothing else, and the files that say how much CPU it gets:
 *
 *   v2   cpu.max               "QUOTA PERIOD", "max PERIOD" for no limit
 *   v1   cpu.cfs_quota_us      -1 for no limit
 *        cpu.cfs_period_us
 */
#ifndef GODWIT_HOLD_CPU_GROUP_H
#define GODWIT_HOLD_CPU_GROUP_H

#include "base/error.h"
#include "host/file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* v2 has the first only. */
enum cpu_group_file { CPU_GROUP_QUOTA, CPU_GROUP_PERIOD, CPU_GROUP_FILES };

struct cpu_group {
    char *path; /* with the root in front; the owner's of this structure */
    bool v2;
};

/* The threads that may be in the groups. */
struct cpu_group_members {
    const char *root; /* in front of /proc and of mount points; "" but in tests */
    pid_t pid;
    const pid_t *threads;
    size_t count;
    struct host_text text; /* of the file that was read last; host_text_free() */
};

/* The group of one of the threads. g->path is the caller's to free, NULL after -1. */
int cpu_group_find(struct cpu_group_members *m, pid_t tid, struct cpu_group *g, struct error *err);

/* Refuses a group whose bandwidth cannot be written, or that others are in or below. Changes nothing. */
int cpu_group_check(struct cpu_group_members *m, const struct cpu_group *g, struct error *err);

/* How many threads the group has, all of them members; 0 also when it is gone; -1 when a stranger is in it. */
int64_t cpu_group_threads(struct cpu_group_members *m, const struct cpu_group *g, struct error *err);

/* How many files this version has, and their names; NULL where it has not that one. */
static inline enum cpu_group_file cpu_group_files(const struct cpu_group *g) {
    return g->v2 ? CPU_GROUP_PERIOD : CPU_GROUP_FILES;
}
const char *cpu_group_file(const struct cpu_group *g, enum cpu_group_file file);
int cpu_group_path(const struct cpu_group *g, enum cpu_group_file file, char *path, size_t size, struct error *err);

/* One line, without its end, cut to fit. Both return 1, 0 when the group is gone, -1 on error. */
int cpu_group_read(struct cpu_group_members *m, const struct cpu_group *g, enum cpu_group_file file, char *line,
                   size_t size, struct error *err);
int cpu_group_write(const struct cpu_group *g, enum cpu_group_file file, const char *line, struct error *err);

#endif
