/* SPDX-License-Identifier: Apache-2.0 */
#include "hold/cpu_group.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "host/parse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

/* Whether a file is not there because its group is not: a write or read may also hit a group that is being removed. */
static bool is_gone(int error) {
    return error == ENOENT || error == ENODEV;
}

static int path_of(const struct cpu_group *g, const char *name, char *path, size_t size, struct error *err) {
    int n = snprintf(path, size, "%s/%s", g->path, name);
    if (n < 0 || (size_t)n >= size) {
        return error_set(err, ERROR_SYSTEM, "the path of control group %s is too long", g->path);
    }
    return 0;
}

const char *cpu_group_file(const struct cpu_group *g, enum cpu_group_file file) {
    static const char *const names[2][CPU_GROUP_FILES] = { { "cpu.cfs_quota_us", "cpu.cfs_period_us" },
                                                           { "cpu.max", NULL } };
    return names[g->v2][file];
}

int cpu_group_path(const struct cpu_group *g, enum cpu_group_file file, char *path, size_t size, struct error *err) {
    return path_of(g, cpu_group_file(g, file), path, size, err);
}

/* All of a file, NULL with errno. Valid until the next call. */
static char *read_path(struct cpu_group_members *m, const char *root, const char *path) {
    int fd = host_open(root, path);
    if (fd < 0) {
        return NULL;
    }
    errno = 0;
    char *text = host_read(fd, &m->text);
    int error = errno;
    host_close(&fd);
    errno = error;
    return text;
}

int cpu_group_read(struct cpu_group_members *m, const struct cpu_group *g, enum cpu_group_file file, char *line,
                   size_t size, struct error *err) {
    char path[PATH_MAX];
    if (cpu_group_path(g, file, path, sizeof(path), err) < 0) {
        return -1;
    }
    const char *text = read_path(m, "", path);
    if (text == NULL) {
        return is_gone(errno) ? 0 : error_errno(err, ERROR_SYSTEM, "cannot read %s", path);
    }
    snprintf(line, size, "%.*s", (int)strcspn(text, "\n"), text);
    return 1;
}

int cpu_group_write(const struct cpu_group *g, enum cpu_group_file file, const char *line, struct error *err) {
    char path[PATH_MAX];
    if (cpu_group_path(g, file, path, sizeof(path), err) < 0) {
        return -1;
    }
    int fd CLEANUP_CLOSE = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    size_t length = strlen(line);
    if (fd >= 0 && write(fd, line, length) == (ssize_t)length) {
        return 1;
    }
    return is_gone(errno) ? 0 : error_errno(err, ERROR_SYSTEM, "cannot write \"%s\" to %s", line, path);
}

static bool is_member(const struct cpu_group_members *m, uint64_t tid) {
    for (size_t i = 0; i < m->count; i++) {
        if ((uint64_t)m->threads[i] == tid) {
            return true;
        }
    }
    return false;
}

static int stranger_error(const struct cpu_group_members *m, const struct cpu_group *g, uint64_t tid,
                          struct error *err) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%llu/cgroup", (int)m->pid, (unsigned long long)tid);
    int fd = host_open(m->root, path);
    bool of_vmm = fd >= 0;
    host_close(&fd);
    if (of_vmm) {
        return error_set(err, ERROR_REFUSED,
                         "cannot throttle by quota: threads of the VMM that are no vCPUs are in the same group (thread "
                         "%llu in %s)",
                         (unsigned long long)tid, g->path);
    }
    return error_set(err, ERROR_REFUSED,
                     "cannot throttle by quota: threads of other processes are in the same group (thread %llu in %s)",
                     (unsigned long long)tid, g->path);
}

int64_t cpu_group_threads(struct cpu_group_members *m, const struct cpu_group *g, struct error *err) {
    char path[PATH_MAX];
    const char *name = g->v2 ? "cgroup.threads" : "tasks";
    int64_t count = 0;
    uint64_t tid;
    if (path_of(g, name, path, sizeof(path), err) < 0) {
        return -1;
    }
    const char *text = read_path(m, "", path);
    if (text == NULL) {
        return is_gone(errno) ? 0 : error_errno(err, ERROR_SYSTEM, "cannot read %s", path);
    }
    for (; *text != '\0'; count++) {
        if (!text_number(&text, &tid) || *text != '\n') {
            return error_set(err, ERROR_SYSTEM, "cannot make sense of %s", path);
        }
        text++;
        if (!is_member(m, tid)) {
            return stranger_error(m, g, tid, err);
        }
    }
    return count;
}

/* Bandwidth holds for the groups below too. */
static int check_children(const struct cpu_group *g, struct error *err) {
    DIR *dir = opendir(g->path);
    if (dir == NULL) {
        return error_errno(err, ERROR_SYSTEM, "cannot read %s", g->path);
    }
    int rc = 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(dir)) != NULL;) {
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
            rc = error_set(err, ERROR_REFUSED, "cannot throttle by quota: there are groups below %s, such as %s",
                           g->path, entry->d_name);
        }
    }
    closedir(dir);
    return rc;
}

static int check_writable(const struct cpu_group *g, struct error *err) {
    for (enum cpu_group_file f = 0; f < CPU_GROUP_FILES && cpu_group_file(g, f) != NULL; f++) {
        char path[PATH_MAX];
        if (cpu_group_path(g, f, path, sizeof(path), err) < 0) {
            return -1;
        }
        int fd CLEANUP_CLOSE = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) {
            return error_set(err, ERROR_REFUSED,
                             "cannot throttle by quota: control group %s has no %s (it is the root, or its cpu "
                             "controller is off)",
                             g->path, cpu_group_file(g, f));
        }
        if (fd < 0) {
            return error_errno(err, ERROR_REFUSED, "cannot throttle by quota: cannot write %s", path);
        }
    }
    return 0;
}

/* A hierarchy of control groups; the one that has the cpu controller. */
struct place {
    bool v2;
    char group[1024]; /* in it */
};

static int find_place(struct cpu_group_members *m, pid_t tid, struct place *place, struct error *err) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/cgroup", (int)m->pid, (int)tid);
    const char *text = read_path(m, m->root, path);
    if (text == NULL) {
        return error_errno(err, ERROR_REFUSED, "cannot throttle: thread %d is not one of process %d", (int)tid,
                           (int)m->pid);
    }
    place->v2 = false;
    if (!parse_group(text, "cpu", place->group, sizeof(place->group))) {
        place->v2 = true;
        if (!parse_group(text, "", place->group, sizeof(place->group))) {
            return error_set(err, ERROR_REFUSED, "cannot throttle by quota: thread %d is in no control group",
                             (int)tid);
        }
    }
    if (strstr(place->group, "/..") != NULL) {
        return error_set(err, ERROR_REFUSED,
                         "cannot throttle by quota: the control group of thread %d, %s, is outside of our cgroup "
                         "namespace",
                         (int)tid, place->group);
    }
    return 0;
}

/* The path of the group under `root`; NULL when this mount does not show it. The caller frees it. */
static char *path_in_mount(const char *root, const struct host_mount *mount, const struct place *place) {
    size_t above = strcmp(mount->root, "/") == 0 ? 0 : strlen(mount->root);
    size_t point = strcmp(mount->point, "/") == 0 ? 0 : strlen(mount->point);
    char *path = NULL;
    if (strncmp(place->group, mount->root, above) != 0 || (place->group[above] != '/' && place->group[above] != '\0')) {
        return NULL;
    }
    const char *below = strcmp(place->group + above, "/") == 0 ? "" : place->group + above;
    return asprintf(&path, "%s%.*s%s", root, (int)point, mount->point, below) < 0 ? NULL : path;
}

static char *group_path(struct cpu_group_members *m, const struct place *place, struct error *err) {
    const char *mounts = read_path(m, m->root, "/proc/self/mountinfo");
    if (mounts == NULL) {
        error_errno(err, ERROR_SYSTEM, "cannot read /proc/self/mountinfo");
        return NULL;
    }
    struct host_mount mount;
    while (parse_mount(&mounts, &mount)) {
        char *path = mount.v2 == place->v2 && mount.cpu ? path_in_mount(m->root, &mount, place) : NULL;
        if (path != NULL) {
            return path;
        }
    }
    error_set(err, ERROR_REFUSED, "cannot throttle by quota: control group %s is not mounted here", place->group);
    return NULL;
}

/* Threads of a real-time class do not count against this bandwidth. */
static int check_class(const struct cpu_group_members *m, pid_t tid, struct error *err) {
    int class = m->root[0] == '\0' ? sched_getscheduler(tid) & ~SCHED_RESET_ON_FORK : SCHED_OTHER;
    if (class == SCHED_FIFO || class == SCHED_RR || class == SCHED_DEADLINE) {
        return error_set(err, ERROR_REFUSED,
                         "cannot throttle by quota: thread %d has a real-time priority, to which no quota applies",
                         (int)tid);
    }
    return 0;
}

int cpu_group_find(struct cpu_group_members *m, pid_t tid, struct cpu_group *g, struct error *err) {
    struct place place;
    g->path = NULL;
    if (check_class(m, tid, err) < 0 || find_place(m, tid, &place, err) < 0) {
        return -1;
    }
    *g = (struct cpu_group){ .path = group_path(m, &place, err), .v2 = place.v2 };
    return g->path != NULL ? 0 : -1;
}

int cpu_group_check(struct cpu_group_members *m, const struct cpu_group *g, struct error *err) {
    if (check_writable(g, err) < 0 || check_children(g, err) < 0) {
        return -1;
    }
    return cpu_group_threads(m, g, err) < 0 ? -1 : 0;
}
