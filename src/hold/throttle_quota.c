/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Throttling by the CPU bandwidth of control groups, where each group holds vCPU threads and nothing else (libvirt
 * makes such groups: vcpu0, vcpu1 …).
 *
 * - A group gets (100 - percent) % of what it could have had: of a CPU for each of its threads, or of the limit that it
 *   has already when that is less. A throttle never gives more than the operator did.
 * - The period stays the operator's unless the quota would be less than the kernel takes (1 ms): then it is made
 * longer, up to the kernel's 1 s. Never shorter: so a period that is written first and put back last keeps every step
 * within the limits that v1 demands between a group and the one around it.
 * - The kernel keeps to a quota in the mean: a thread that overruns it at a tick pays in the following periods.
 * - What somebody else wrote since is never overwritten. Each file is judged by itself: ours is what was announced
 * last, and what was announced before it, for a write may have failed.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "hold/cpu_group.h"
#include "hold/throttle_ops.h"
#include "host/parse.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUOTA_LEAST UINT64_C(1000) /* us, the kernel's */
#define PERIOD_MOST UINT64_C(1000000)

struct bandwidth {
    char text[CPU_GROUP_FILES][64]; /* without newlines */
    double cpus;                    /* INFINITY: no limit */
    uint64_t period;                /* us */
};

struct group {
    struct cpu_group at;
    bool changed; /* by us, and noted */
    /* Valid while changed: */
    struct bandwidth before;     /* puts it back */
    struct bandwidth ours, last; /* what is there if nobody else wrote: the newest, or else the one before */
};

enum author { AUTHOR_GONE, AUTHOR_BEFORE, AUTHOR_US, AUTHOR_OTHERS };

struct quota {
    struct cpu_group_members members;
    struct group *groups;
    size_t count;
    unsigned percent;
    int64_t since, held_ns; /* percent is in force since; held before that */
};

static bool has_group(const struct quota *q, const char *path) {
    for (size_t i = 0; i < q->count; i++) {
        if (strcmp(q->groups[i].at.path, path) == 0) {
            return true;
        }
    }
    return false;
}

static int add_group_of(struct quota *q, pid_t tid, struct error *err) {
    struct cpu_group found;
    if (cpu_group_find(&q->members, tid, &found, err) < 0) {
        return -1;
    }
    if (has_group(q, found.path)) {
        free(found.path);
        return 0;
    }
    q->groups[q->count++] = (struct group){ .at = found };
    return cpu_group_check(&q->members, &found, err);
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
    q->members = (struct cpu_group_members){ t->config.root, t->config.pid, t->threads, t->count, { 0 } };
    q->groups = calloc(t->count, sizeof(*q->groups));
    if (q->groups == NULL) {
        return error_set(err, ERROR_SYSTEM, "out of memory");
    }
    for (size_t i = 0; i < t->count; i++) {
        if (add_group_of(q, t->threads[i], err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Returns 1, 0 when the group is gone, -1 on error. */
static int read_bandwidth(struct quota *q, const struct group *g, struct bandwidth *b, struct error *err) {
    for (enum cpu_group_file f = 0; f < cpu_group_files(&g->at); f++) {
        int rc = cpu_group_read(&q->members, &g->at, f, b->text[f], sizeof(b->text[f]), err);
        if (rc <= 0) {
            return rc;
        }
    }
    const char *quota = b->text[CPU_GROUP_QUOTA], *period = b->text[CPU_GROUP_PERIOD];
    if (g->at.v2) {
        period = strchr(quota, ' ') != NULL ? strchr(quota, ' ') + 1 : "";
    }
    bool ok = g->at.v2 ? parse_quota(quota, &b->cpus) : parse_quota_v1(quota, period, &b->cpus);
    if (!ok || !text_number(&period, &b->period) || b->period == 0 || b->period > PERIOD_MOST) {
        return error_set(err, ERROR_SYSTEM, "cannot make sense of \"%s\" in %s/%s", quota, g->at.path,
                         cpu_group_file(&g->at, CPU_GROUP_QUOTA));
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
    if (g->at.v2) {
        snprintf(b->text[CPU_GROUP_QUOTA], sizeof(b->text[CPU_GROUP_QUOTA]), "%llu %llu", q, p);
    } else {
        snprintf(b->text[CPU_GROUP_QUOTA], sizeof(b->text[CPU_GROUP_QUOTA]), "%llu", q);
        snprintf(b->text[CPU_GROUP_PERIOD], sizeof(b->text[CPU_GROUP_PERIOD]), "%llu", p);
    }
}

/* From one to the other; v1's period first when it becomes longer, else last: so no step in between gives more than
 * both ends. Returns 1, 0 when the group is gone, -1 on error. */
static int write_bandwidth(const struct group *g, const struct bandwidth *from, const struct bandwidth *to,
                           struct error *err) {
    int rc = 1;
    if (!g->at.v2 && to->period > from->period) {
        rc = cpu_group_write(&g->at, CPU_GROUP_PERIOD, to->text[CPU_GROUP_PERIOD], err);
    }
    if (rc > 0) {
        rc = cpu_group_write(&g->at, CPU_GROUP_QUOTA, to->text[CPU_GROUP_QUOTA], err);
    }
    if (rc > 0 && !g->at.v2 && to->period < from->period) {
        rc = cpu_group_write(&g->at, CPU_GROUP_PERIOD, to->text[CPU_GROUP_PERIOD], err);
    }
    return rc;
}

/* Tells the undoer what puts the group back from `ours`; NULL: there is nothing to undo any more. */
static int note(struct throttle *t, const struct group *g, const struct bandwidth *ours, struct error *err) {
    for (enum cpu_group_file f = 0; f < cpu_group_files(&g->at); f++) {
        char path[PATH_MAX];
        if (cpu_group_path(&g->at, f, path, sizeof(path), err) < 0 ||
            t->config.note(t->config.opaque, path, ours != NULL ? g->before.text[f] : NULL,
                           ours != NULL ? ours->text[f] : NULL, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void forget(struct throttle *t, struct group *g) {
    struct error ignored = { 0 };
    g->changed = false;
    note(t, g, NULL, &ignored);
}

/* Who wrote what is in the file now; AUTHOR_BEFORE: nobody since. 0, or -1 on error. */
static int find_author(struct quota *q, const struct group *g, enum cpu_group_file f, enum author *who,
                       struct error *err) {
    char line[64];
    int rc = cpu_group_read(&q->members, &g->at, f, line, sizeof(line), err);
    if (rc <= 0) {
        *who = AUTHOR_GONE;
        return rc;
    }
    bool ours = strcmp(line, g->ours.text[f]) == 0 || strcmp(line, g->last.text[f]) == 0;
    *who = strcmp(line, g->before.text[f]) == 0 ? AUTHOR_BEFORE : ours ? AUTHOR_US : AUTHOR_OTHERS;
    return 0;
}

static int put_file_back(struct quota *q, const struct group *g, enum cpu_group_file f, struct error *err) {
    enum author who;
    if (find_author(q, g, f, &who, err) < 0) {
        return -1;
    }
    if (who == AUTHOR_OTHERS) {
        log_warning("somebody else changed %s/%s meanwhile: it is left so", g->at.path, cpu_group_file(&g->at, f));
    }
    return who == AUTHOR_US ? cpu_group_write(&g->at, f, g->before.text[f], err) : 0;
}

/* Back to what it was, but for what somebody else wrote since. What fails is tried again by the next call. */
static int put_back(struct throttle *t, struct group *g, struct error *err) {
    for (enum cpu_group_file f = 0; f < cpu_group_files(&g->at); f++) {
        if (put_file_back(t->state, g, f, err) < 0) {
            return -1;
        }
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

/* Returns 1, 0 when the group is gone, -1 on error, also when somebody else changed it. */
static int check_authors(struct quota *q, const struct group *g, struct error *err) {
    enum author who = AUTHOR_BEFORE;
    for (enum cpu_group_file f = 0; f < cpu_group_files(&g->at); f++) {
        if (find_author(q, g, f, &who, err) < 0) {
            return -1;
        }
        if (who == AUTHOR_GONE) {
            return 0;
        }
        bool undone = who == AUTHOR_BEFORE && strcmp(g->ours.text[f], g->before.text[f]) != 0;
        if (who == AUTHOR_OTHERS || undone) {
            return error_set(err, ERROR_VMM, "cannot throttle by quota: somebody else changed %s/%s", g->at.path,
                             cpu_group_file(&g->at, f));
        }
    }
    return 1;
}

/* Remembers what was, once. 1, 0 when the group is gone, -1 on error. */
static int prepare(struct throttle *t, struct group *g, struct error *err) {
    if (g->changed) {
        return check_authors(t->state, g, err);
    }
    int rc = read_bandwidth(t->state, g, &g->before, err);
    g->ours = g->before;
    return rc;
}

/* Says what will be there and what was, before it is there. */
static int announce(struct throttle *t, struct group *g, const struct bandwidth *wanted, struct error *err) {
    if (note(t, g, wanted, err) < 0) {
        if (!g->changed) {
            forget(t, g);
        }
        return -1;
    }
    g->changed = true;
    g->last = g->ours;
    g->ours = *wanted;
    return 0;
}

/* Returns 1, 0 when the group is gone or nobody is in it, -1 on error. */
static int throttle_group(struct throttle *t, struct group *g, unsigned percent, struct error *err) {
    struct quota *q = t->state;
    int64_t threads = cpu_group_threads(&q->members, &g->at, err);
    if (threads <= 0) {
        return (int)threads;
    }
    int rc = prepare(t, g, err);
    if (rc <= 0) {
        return rc;
    }
    struct bandwidth wanted = { 0 };
    compute(g, threads, percent, &wanted);
    if (announce(t, g, &wanted, err) < 0) {
        return -1;
    }
    rc = write_bandwidth(g, &g->last, &g->ours, err);
    if (rc < 0) { /* perhaps one file of two; what can't be put back now closing tries again, and then the guardian */
        struct error ignored = { 0 };
        put_back(t, g, &ignored);
    }
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
    struct quota *q = t->state;
    int rc = check_authors(q, g, err);
    if (rc <= 0) {
        return rc;
    }
    int64_t threads = cpu_group_threads(&q->members, &g->at, err);
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
        free(q->groups[i].at.path);
    }
    free(q->groups);
    host_text_free(&q->members.text);
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
