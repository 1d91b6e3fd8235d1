/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Throttling by the CPU bandwidth of control groups, where each group holds vCPU threads and nothing else (libvirt
 * makes such groups: vcpu0, vcpu1 …).
 *
 *   v2   cpu.max               "QUOTA PERIOD", "max PERIOD" for no limit
 *   v1   cpu.cfs_quota_us      -1 for no limit
 *        cpu.cfs_period_us
 *
 * - A group gets (100 - percent) % of what it could have had: of a CPU for each of its threads, or of the limit that it
 *   has already when that is less. A throttle never gives more than the operator did.
 * - The period stays the operator's unless the quota would be less than the kernel takes (1 ms): then it is made
 * longer, up to the kernel's 1 s. Never shorter: so a period that is written first and put back last keeps every step
 * within the limits that v1 demands between a group and the one around it.
 * - The kernel keeps to a quota in the mean: a thread that overruns it at a tick pays in the following periods.
 * - What somebody else wrote since is never overwritten.
 */
#include "attach/throttle_ops.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "host/file.h"
#include "host/parse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define QUOTA_LEAST UINT64_C(1000) /* us, the kernel's */
#define PERIOD_MOST UINT64_C(1000000)

/* One of the two files; v2 has QUOTA only. */
enum file { QUOTA, PERIOD, FILES };

static const char *const names[2][FILES] = { { "cpu.cfs_quota_us", "cpu.cfs_period_us" }, { "cpu.max", NULL } };

struct bandwidth {
    char text[FILES][64]; /* without newlines */
    double cpus;          /* INFINITY: no limit */
    uint64_t period;      /* us */
};

struct group {
    char *path; /* with the root in front */
    bool v2;
    bool changed; /* by us, and noted */
    /* Valid while changed: */
    struct bandwidth before; /* puts it back */
    struct bandwidth ours;   /* what is there if nobody else wrote */
};

struct quota {
    struct host_text text; /* of the file that was read last */
    struct group *groups;
    size_t count;
    unsigned percent;
    int64_t since, held_ns; /* percent is in force since; held before that */
};

/* Whether a file is not there because its group is not: a write or read may also hit a group that is being removed. */
static bool is_gone(int error) {
    return error == ENOENT || error == ENODEV;
}

static int file_path(const struct group *g, const char *name, char *path, size_t size, struct error *err) {
    int n = snprintf(path, size, "%s/%s", g->path, name);
    if (n < 0 || (size_t)n >= size) {
        return error_set(err, ERROR_SYSTEM, "the path of control group %s is too long", g->path);
    }
    return 0;
}

/* All of a file, NULL with errno. Valid until the next call. */
static char *read_path(struct quota *q, const char *root, const char *path) {
    int fd = host_open(root, path);
    if (fd < 0) {
        return NULL;
    }
    errno = 0;
    char *text = host_read(fd, &q->text);
    int error = errno;
    host_close(&fd);
    errno = error;
    return text;
}

/* One line of a group's file without its end, cut to fit. Returns 1, 0 when the group is gone, -1 on error. */
static int read_line(struct quota *q, const struct group *g, const char *name, char *line, size_t size,
                     struct error *err) {
    char path[PATH_MAX];
    if (file_path(g, name, path, sizeof(path), err) < 0) {
        return -1;
    }
    const char *text = read_path(q, "", path);
    if (text == NULL) {
        return is_gone(errno) ? 0 : error_errno(err, ERROR_SYSTEM, "cannot read %s", path);
    }
    snprintf(line, size, "%.*s", (int)strcspn(text, "\n"), text);
    return 1;
}

/* Returns 1, 0 when the group is gone, -1 on error. */
static int write_line(const struct group *g, const char *name, const char *line, struct error *err) {
    char path[PATH_MAX];
    if (file_path(g, name, path, sizeof(path), err) < 0) {
        return -1;
    }
    int fd CLEANUP_CLOSE = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    size_t length = strlen(line);
    if (fd >= 0 && write(fd, line, length) == (ssize_t)length) {
        return 1;
    }
    return is_gone(errno) ? 0 : error_errno(err, ERROR_SYSTEM, "cannot write \"%s\" to %s", line, path);
}

static bool is_ours(const struct throttle *t, uint64_t tid) {
    for (size_t i = 0; i < t->count; i++) {
        if ((uint64_t)t->threads[i] == tid) {
            return true;
        }
    }
    return false;
}

static int stranger_error(const struct throttle *t, const struct group *g, uint64_t tid, struct error *err) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%llu/cgroup", (int)t->config.pid, (unsigned long long)tid);
    int fd = host_open(t->config.root, path);
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

/* How many threads the group has, all of them ours. 0 also when it is gone. */
static int64_t count_threads(struct throttle *t, const struct group *g, struct error *err) {
    char path[PATH_MAX];
    const char *name = g->v2 ? "cgroup.threads" : "tasks";
    int64_t count = 0;
    uint64_t tid;
    if (file_path(g, name, path, sizeof(path), err) < 0) {
        return -1;
    }
    const char *text = read_path(t->state, "", path);
    if (text == NULL) {
        return is_gone(errno) ? 0 : error_errno(err, ERROR_SYSTEM, "cannot read %s", path);
    }
    for (; *text != '\0'; count++) {
        if (!parse_number(&text, &tid) || *text != '\n') {
            return error_set(err, ERROR_SYSTEM, "cannot make sense of %s", path);
        }
        text++;
        if (!is_ours(t, tid)) {
            return stranger_error(t, g, tid, err);
        }
    }
    return count;
}

/* Bandwidth holds for the groups below too. */
static int check_children(const struct group *g, struct error *err) {
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

static int check_writable(const struct group *g, struct error *err) {
    for (int f = 0; f < FILES && names[g->v2][f] != NULL; f++) {
        char path[PATH_MAX];
        if (file_path(g, names[g->v2][f], path, sizeof(path), err) < 0) {
            return -1;
        }
        int fd CLEANUP_CLOSE = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) {
            return error_set(err, ERROR_REFUSED,
                             "cannot throttle by quota: control group %s has no %s (it is the root, or its cpu "
                             "controller is off)",
                             g->path, names[g->v2][f]);
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

static int find_place(struct throttle *t, pid_t tid, struct place *place, struct error *err) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/cgroup", (int)t->config.pid, (int)tid);
    const char *text = read_path(t->state, t->config.root, path);
    if (text == NULL) {
        return error_errno(err, ERROR_REFUSED, "cannot throttle: thread %d is not one of process %d", (int)tid,
                           (int)t->config.pid);
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
static char *path_in_mount(const char *root, const struct host_mount *m, const struct place *place) {
    size_t above = strcmp(m->root, "/") == 0 ? 0 : strlen(m->root);
    size_t point = strcmp(m->point, "/") == 0 ? 0 : strlen(m->point);
    char *path = NULL;
    if (strncmp(place->group, m->root, above) != 0 || (place->group[above] != '/' && place->group[above] != '\0')) {
        return NULL;
    }
    const char *below = strcmp(place->group + above, "/") == 0 ? "" : place->group + above;
    return asprintf(&path, "%s%.*s%s", root, (int)point, m->point, below) < 0 ? NULL : path;
}

static char *group_path(struct throttle *t, const struct place *place, struct error *err) {
    const char *mounts = read_path(t->state, t->config.root, "/proc/self/mountinfo");
    if (mounts == NULL) {
        error_errno(err, ERROR_SYSTEM, "cannot read /proc/self/mountinfo");
        return NULL;
    }
    struct host_mount m;
    while (parse_mount(&mounts, &m)) {
        char *path = m.v2 == place->v2 && m.cpu ? path_in_mount(t->config.root, &m, place) : NULL;
        if (path != NULL) {
            return path;
        }
    }
    error_set(err, ERROR_REFUSED, "cannot throttle by quota: control group %s is not mounted here", place->group);
    return NULL;
}

static bool has_group(const struct quota *q, const char *path) {
    for (size_t i = 0; i < q->count; i++) {
        if (strcmp(q->groups[i].path, path) == 0) {
            return true;
        }
    }
    return false;
}

/* Threads of a real-time class do not count against this bandwidth. */
static int check_class(const struct throttle *t, pid_t tid, struct error *err) {
    int class = t->config.root[0] == '\0' ? sched_getscheduler(tid) & ~SCHED_RESET_ON_FORK : SCHED_OTHER;
    if (class == SCHED_FIFO || class == SCHED_RR || class == SCHED_DEADLINE) {
        return error_set(err, ERROR_REFUSED,
                         "cannot throttle by quota: thread %d has a real-time priority, to which no quota applies",
                         (int)tid);
    }
    return 0;
}

static int add_group_of(struct throttle *t, pid_t tid, struct error *err) {
    struct quota *q = t->state;
    struct place place;
    if (check_class(t, tid, err) < 0 || find_place(t, tid, &place, err) < 0) {
        return -1;
    }
    char *path CLEANUP_FREE = group_path(t, &place, err);
    if (path == NULL) {
        return -1;
    }
    if (has_group(q, path)) {
        return 0;
    }
    struct group *g = &q->groups[q->count];
    *g = (struct group){ .path = take_ptr(&path), .v2 = place.v2 };
    q->count++;
    if (check_writable(g, err) < 0 || check_children(g, err) < 0) {
        return -1;
    }
    return count_threads(t, g, err) < 0 ? -1 : 0;
}

static int quota_open(struct throttle *t, struct error *err) {
    if (t->config.note == NULL) {
        return error_set(err, ERROR_REFUSED,
                         "cannot throttle by quota: it would outlive godwit, and nobody would put it back");
    }
    struct quota *q = calloc(1, sizeof(*q));
    if (q == NULL) {
        return error_set(err, ERROR_SYSTEM, "out of memory");
    }
    t->state = q;
    q->groups = calloc(t->count, sizeof(*q->groups));
    if (q->groups == NULL) {
        return error_set(err, ERROR_SYSTEM, "out of memory");
    }
    for (size_t i = 0; i < t->count; i++) {
        if (add_group_of(t, t->threads[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Returns 1, 0 when the group is gone, -1 on error. */
static int read_bandwidth(struct quota *q, const struct group *g, struct bandwidth *b, struct error *err) {
    for (int f = 0; f < FILES && names[g->v2][f] != NULL; f++) {
        int rc = read_line(q, g, names[g->v2][f], b->text[f], sizeof(b->text[f]), err);
        if (rc <= 0) {
            return rc;
        }
    }
    const char *quota = b->text[QUOTA], *period = b->text[PERIOD];
    if (g->v2) {
        period = strchr(quota, ' ') != NULL ? strchr(quota, ' ') + 1 : "";
    }
    bool ok = g->v2 ? parse_quota(quota, &b->cpus) : parse_quota_v1(quota, period, &b->cpus);
    if (!ok || !parse_number(&period, &b->period) || b->period == 0 || b->period > PERIOD_MOST) {
        return error_set(err, ERROR_SYSTEM, "cannot make sense of \"%s\" in %s/%s", quota, g->path,
                         names[g->v2][QUOTA]);
    }
    return 1;
}

/* What leaves (100 - percent) % of what `threads` threads may use by `before`. */
static void compute(const struct group *g, int64_t threads, unsigned percent, struct bandwidth *b) {
    double had = g->before.cpus < (double)threads ? g->before.cpus : (double)threads;
    b->cpus = had * (100 - percent) / 100;
    b->period = g->before.period;
    if (b->cpus * (double)b->period < (double)QUOTA_LEAST) {
        bool possible = b->cpus * (double)PERIOD_MOST > (double)QUOTA_LEAST;
        b->period = possible ? (uint64_t)((double)QUOTA_LEAST / b->cpus + 0.5) : PERIOD_MOST;
    }
    uint64_t quota = (uint64_t)(b->cpus * (double)b->period + 0.5);
    quota = quota > QUOTA_LEAST ? quota : QUOTA_LEAST;
    unsigned long long q = quota, p = b->period;
    if (g->v2) {
        snprintf(b->text[QUOTA], sizeof(b->text[QUOTA]), "%llu %llu", q, p);
    } else {
        snprintf(b->text[QUOTA], sizeof(b->text[QUOTA]), "%llu", q);
        snprintf(b->text[PERIOD], sizeof(b->text[PERIOD]), "%llu", p);
    }
}

/* From one to the other; v1's period first when it becomes longer, else last: so no step in between gives more than
 * both ends. Returns 1, 0 when the group is gone, -1 on error. */
static int write_bandwidth(const struct group *g, const struct bandwidth *from, const struct bandwidth *to,
                           struct error *err) {
    int rc = 1;
    if (!g->v2 && to->period > from->period) {
        rc = write_line(g, names[g->v2][PERIOD], to->text[PERIOD], err);
    }
    if (rc > 0) {
        rc = write_line(g, names[g->v2][QUOTA], to->text[QUOTA], err);
    }
    if (rc > 0 && !g->v2 && to->period < from->period) {
        rc = write_line(g, names[g->v2][PERIOD], to->text[PERIOD], err);
    }
    return rc;
}

/* Tells the undoer what puts the group back, or that there is nothing to undo any more. */
static int note(struct throttle *t, const struct group *g, bool is_back, struct error *err) {
    for (int f = 0; f < FILES && names[g->v2][f] != NULL; f++) {
        char path[PATH_MAX];
        if (file_path(g, names[g->v2][f], path, sizeof(path), err) < 0 ||
            t->config.note(t->config.opaque, path, is_back ? NULL : g->before.text[f], err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void forget(struct throttle *t, struct group *g) {
    struct error ignored = { 0 };
    g->changed = false;
    note(t, g, true, &ignored);
}

/* Whether our text is there still. 1; 0 somebody else wrote, or the group is *gone; -1 on error. */
static int is_ours_still(struct quota *q, const struct group *g, bool *gone, struct error *err) {
    char line[64];
    int rc = read_line(q, g, names[g->v2][QUOTA], line, sizeof(line), err);
    *gone = rc == 0;
    return rc <= 0 ? rc : strcmp(line, g->ours.text[QUOTA]) == 0;
}

/* Back to what it was, unless somebody else wrote since. What fails is tried again by the next call. */
static int put_back(struct throttle *t, struct group *g, struct error *err) {
    bool gone;
    int rc = is_ours_still(t->state, g, &gone, err);
    if (rc == 0 && !gone) {
        log_warning("somebody else changed %s/%s meanwhile: it is left so", g->path, names[g->v2][QUOTA]);
    }
    if (rc > 0) {
        rc = write_bandwidth(g, &g->ours, &g->before, err);
    }
    if (rc < 0) {
        return -1;
    }
    forget(t, g);
    return 0;
}

/* All of them, also when one fails. */
static int put_all_back(struct throttle *t, struct error *err) {
    struct quota *q = t->state;
    int rc = 0;
    for (size_t i = 0; i < q->count; i++) {
        if (q->groups[i].changed && put_back(t, &q->groups[i], err) < 0) {
            rc = -1;
        }
    }
    int64_t now = clock_now();
    q->held_ns += (now - q->since) * q->percent / 100;
    q->since = now;
    q->percent = 0;
    return rc;
}

static int changed_by_others(const struct group *g, struct error *err) {
    return error_set(err, ERROR_VMM, "cannot throttle by quota: somebody else changed %s/%s", g->path,
                     names[g->v2][QUOTA]);
}

/* Remembers and notes what was, once. 1, 0 when the group is gone, -1 on error. */
static int prepare(struct throttle *t, struct group *g, struct error *err) {
    bool gone;
    if (g->changed) {
        int rc = is_ours_still(t->state, g, &gone, err);
        return rc == 0 && !gone ? changed_by_others(g, err) : rc;
    }
    int rc = read_bandwidth(t->state, g, &g->before, err);
    if (rc <= 0) {
        return rc;
    }
    g->ours = g->before;
    if (note(t, g, false, err) < 0) {
        struct error ignored = { 0 };
        note(t, g, true, &ignored);
        return -1;
    }
    g->changed = true;
    return 1;
}

/* Returns 1, 0 when the group is gone or nobody is in it, -1 on error. */
static int throttle_group(struct throttle *t, struct group *g, unsigned percent, struct error *err) {
    int64_t threads = count_threads(t, g, err);
    if (threads <= 0) {
        return (int)threads;
    }
    int rc = prepare(t, g, err);
    if (rc <= 0) {
        return rc;
    }
    struct bandwidth wanted = { 0 };
    compute(g, threads, percent, &wanted);
    rc = write_bandwidth(g, &g->ours, &wanted, err);
    if (rc < 0) { /* perhaps one file of two */
        struct error ignored = { 0 };
        if (write_bandwidth(g, &wanted, &g->before, &ignored) >= 0) {
            forget(t, g);
        } else {
            g->ours = wanted; /* what was noted stays so: closing tries again, and then the guardian */
        }
        return -1;
    }
    g->ours = wanted;
    return rc;
}

static int quota_hold(struct throttle *t, unsigned percent, struct error *err) {
    struct quota *q = t->state;
    struct error ignored = { 0 };
    bool any = false;
    for (size_t i = 0; i < q->count; i++) {
        int rc = throttle_group(t, &q->groups[i], percent, err);
        if (rc < 0) {
            put_all_back(t, &ignored);
            return -1;
        }
        any |= rc > 0;
    }
    if (!any) {
        put_all_back(t, &ignored);
        return error_set(err, ERROR_VMM, "cannot throttle: all vCPU threads of process %d have ended",
                         (int)t->config.pid);
    }
    int64_t now = clock_now();
    q->held_ns += (now - q->since) * q->percent / 100;
    q->since = now;
    q->percent = percent;
    return 0;
}

static int quota_release(struct throttle *t, struct error *err) {
    return put_all_back(t, err);
}

/* 1, 0 when the group is gone or nobody is in it, -1 on error. */
static int check_group(struct throttle *t, const struct group *g, struct error *err) {
    bool gone;
    int rc = is_ours_still(t->state, g, &gone, err);
    if (rc <= 0) {
        return rc == 0 && !gone ? changed_by_others(g, err) : rc;
    }
    int64_t threads = count_threads(t, g, err);
    return threads > 0 ? 1 : (int)threads;
}

static int quota_check(struct throttle *t, struct error *err) {
    struct quota *q = t->state;
    int rc = 0;
    bool any = false;
    for (size_t i = 0; i < q->count && rc >= 0; i++) {
        rc = q->groups[i].changed ? check_group(t, &q->groups[i], err) : 0;
        any |= rc > 0;
    }
    if (rc >= 0 && !any) {
        rc =
            error_set(err, ERROR_VMM, "cannot throttle: all vCPU threads of process %d have ended", (int)t->config.pid);
    }
    if (rc < 0) {
        struct error ignored = { 0 };
        put_all_back(t, &ignored);
        return -1;
    }
    return 0;
}

static int64_t quota_held_ns(struct throttle *t) {
    const struct quota *q = t->state;
    return q->held_ns + (clock_now() - q->since) * q->percent / 100;
}

static void quota_close(struct throttle *t) {
    struct quota *q = t->state;
    if (q == NULL) {
        return;
    }
    for (size_t i = 0; i < q->count; i++) {
        free(q->groups[i].path);
    }
    free(q->groups);
    host_text_free(&q->text);
    free(q);
}

const struct throttle_ops throttle_quota_ops = {
    .kind = THROTTLE_QUOTA,
    .open = quota_open,
    .hold = quota_hold,
    .release = quota_release,
    .check = quota_check,
    .held_ns = quota_held_ns,
    .close = quota_close,
};
