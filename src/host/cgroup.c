/* SPDX-License-Identifier: Apache-2.0 */
#include "host/cgroup.h"

#include "host/file.h"
#include "host/parse.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LEVELS 48 /* of all hierarchies together; deeper ones, near the top, are left out */

enum file { QUOTA, PERIOD, USAGE, LIMIT, HIGH, CURRENT, STAT, FILES };

/* The same table for v1's hierarchies of cpu and memory: what a group does not have is not opened. */
static const char *const names[2][FILES] = {
    { "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpuacct.usage", "memory.limit_in_bytes", NULL, "memory.usage_in_bytes",
      "memory.stat" },
    { "cpu.max", NULL, "cpu.stat", "memory.max", "memory.high", "memory.current", "memory.stat" },
};

struct level {
    bool v2;
    int fd[FILES]; /* -1: not there */
    bool usage_known;
    uint64_t usage; /* ns of CPU time at `at` */
    int64_t at;
};

struct cgroup {
    struct host_text *text;
    unsigned count;
    struct level levels[MAX_LEVELS];
};

static void open_level(struct cgroup *c, const char *root, const char *path, bool v2) {
    struct level *l = &c->levels[c->count];
    bool any = false;
    l->v2 = v2;
    for (int i = 0; i < FILES; i++) {
        char name[PATH_MAX];
        int n = names[v2][i] == NULL ? -1 : snprintf(name, sizeof(name), "%s/%s", path, names[v2][i]);
        l->fd[i] = n > 0 && (size_t)n < sizeof(name) ? host_open(root, name) : -1;
        any |= l->fd[i] >= 0;
    }
    c->count += any;
}

/* From the group up to the mount point. */
static void open_levels(struct cgroup *c, const char *root, const struct host_mount *m, const char *group) {
    char path[PATH_MAX];
    size_t point = strcmp(m->point, "/") == 0 ? 0 : strlen(m->point);
    int n = snprintf(path, sizeof(path), "%.*s%s", (int)point, m->point, group);
    size_t length = n > 0 && (size_t)n < sizeof(path) ? (size_t)n : point;
    while (c->count < MAX_LEVELS) {
        while (length > point && path[length - 1] == '/') {
            length--;
        }
        path[length] = '\0';
        open_level(c, root, path, m->v2);
        if (length <= point) {
            return;
        }
        while (length > point && path[length - 1] != '/') {
            length--;
        }
    }
}

/* Where below the mount point our group is; "" when it can't be told, as when it is outside the cgroup namespace. */
static const char *below_mount(const struct host_mount *m, const char *group) {
    size_t length = strcmp(m->root, "/") == 0 ? 0 : strlen(m->root);
    if (strncmp(group, m->root, length) != 0 || (group[length] != '/' && group[length] != '\0') ||
        strstr(group, "/..") != NULL) {
        return "";
    }
    return group + length;
}

/* A mount may be there twice, so each controller is taken where it is first seen. */
static void open_mounts(struct cgroup *c, const char *root, const char *mounts, const char *groups) {
    struct host_mount m;
    bool seen_v2 = false, seen_cpu = false, seen_memory = false;
    while (parse_mount(&mounts, &m)) {
        char group[1024];
        const char *controller = m.v2 ? "" : m.cpu ? "cpu" : "memory";
        bool seen = m.v2 ? seen_v2 : (!m.cpu || seen_cpu) && (!m.memory || seen_memory);
        if (!seen && parse_group(groups, controller, group, sizeof(group))) {
            open_levels(c, root, &m, below_mount(&m, group));
            seen_v2 |= m.v2;
            seen_cpu |= !m.v2 && m.cpu;
            seen_memory |= !m.v2 && m.memory;
        }
    }
}

struct cgroup *cgroup_open(const char *root, struct host_text *text) {
    struct cgroup *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return NULL;
    }
    c->text = text;
    int fd = host_open(root, "/proc/self/cgroup");
    const char *read = host_read(fd, text);
    char *groups = read != NULL ? strdup(read) : NULL;
    host_close(&fd);
    fd = host_open(root, "/proc/self/mountinfo");
    const char *mounts = host_read(fd, text);
    if (groups != NULL && mounts != NULL) {
        open_mounts(c, root, mounts, groups);
    }
    host_close(&fd);
    free(groups);
    return c;
}

void cgroup_close(struct cgroup *c) {
    for (unsigned i = 0; c != NULL && i < c->count; i++) {
        for (int f = 0; f < FILES; f++) {
            host_close(&c->levels[i].fd[f]);
        }
    }
    free(c);
}

static double lesser(double a, double b) {
    return a < b ? a : b;
}

static double read_quota(struct cgroup *c, const struct level *l) {
    double cpus = INFINITY;
    const char *text = host_read(l->fd[QUOTA], c->text);
    if (text == NULL) {
        return INFINITY;
    }
    if (l->v2) {
        return parse_quota(text, &cpus) ? cpus : INFINITY;
    }
    char quota[32];
    snprintf(quota, sizeof(quota), "%s", text);
    const char *period = host_read(l->fd[PERIOD], c->text);
    return period != NULL && parse_quota_v1(quota, period, &cpus) ? cpus : INFINITY;
}

/* ns of CPU time that the group has used. */
static bool read_usage(struct cgroup *c, const struct level *l, uint64_t *usage) {
    const char *text = host_read(l->fd[USAGE], c->text);
    if (text == NULL) {
        return false;
    }
    if (!l->v2) {
        return parse_amount(text, usage);
    }
    return parse_field(text, "usage_usec", usage) && !__builtin_mul_overflow(*usage, UINT64_C(1000), usage);
}

static void limit_cpus(struct cgroup *c, struct level *l, int64_t now, double own, struct cgroup_limits *limits) {
    double quota = read_quota(c, l), use = own;
    uint64_t usage;
    if (isinf(quota)) {
        l->usage_known = false;
        return;
    }
    bool known = read_usage(c, l, &usage);
    if (known && l->usage_known && now > l->at && usage >= l->usage) {
        use = (double)(usage - l->usage) / (double)(now - l->at);
    }
    l->usage_known = known;
    l->usage = known ? usage : 0;
    l->at = now;
    limits->cpus = lesser(limits->cpus, quota);
    limits->cpu_idle = lesser(limits->cpu_idle, quota > use ? quota - use : 0);
}

static uint64_t read_amount(struct cgroup *c, int fd, uint64_t otherwise) {
    uint64_t value;
    const char *text = host_read(fd, c->text);
    return text != NULL && parse_amount(text, &value) ? value : otherwise;
}

static void limit_memory(struct cgroup *c, const struct level *l, struct cgroup_limits *limits) {
    uint64_t limit = read_amount(c, l->fd[LIMIT], UINT64_MAX), high = read_amount(c, l->fd[HIGH], UINT64_MAX);
    limit = high < limit ? high : limit;
    if (limit > (uint64_t)INT64_MAX / 2) { /* v1 writes "none" as the largest multiple of a page */
        return;
    }
    uint64_t used = read_amount(c, l->fd[CURRENT], 0), cache = 0;
    const char *stat = host_read(l->fd[STAT], c->text);
    /* Files that nobody has looked at lately: without this a group that has read much would seem to be full. */
    if (stat == NULL || !parse_field(stat, l->v2 ? "inactive_file" : "total_inactive_file", &cache)) {
        cache = 0;
    }
    used -= cache < used ? cache : used;
    uint64_t left = limit > used ? limit - used : 0;
    limits->memory = left < limits->memory ? left : limits->memory;
}

void cgroup_read(struct cgroup *c, int64_t now, double own, struct cgroup_limits *limits) {
    *limits = (struct cgroup_limits){ .cpus = INFINITY, .cpu_idle = INFINITY, .memory = UINT64_MAX };
    for (unsigned i = 0; i < c->count; i++) {
        limit_cpus(c, &c->levels[i], now, own, limits);
        limit_memory(c, &c->levels[i], limits);
    }
}
