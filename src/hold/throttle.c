/* SPDX-License-Identifier: Apache-2.0 */
#include "hold/throttle.h"

#include "base/log.h"
#include "hold/throttle_ops.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool has_thread(const struct throttle *t, pid_t thread) {
    for (size_t i = 0; i < t->count; i++) {
        if (t->threads[i] == thread) {
            return true;
        }
    }
    return false;
}

static int copy_threads(struct throttle *t, const pid_t *threads, size_t count, struct error *err) {
    t->threads = calloc(count > 0 ? count : 1, sizeof(*t->threads));
    t->root = strdup(t->config.root != NULL ? t->config.root : "");
    t->config.root = t->root;
    if (t->threads == NULL || t->root == NULL) {
        return error_set(err, ERROR_SYSTEM, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        if (threads[i] <= 0) {
            return error_set(err, ERROR_REFUSED, "%d is no thread", (int)threads[i]);
        }
        if (!has_thread(t, threads[i])) { /* two vCPUs on one thread: TCG without multi-threading */
            t->threads[t->count++] = threads[i];
        }
    }
    if (t->count == 0) {
        return error_set(err, ERROR_REFUSED, "there is no thread to throttle");
    }
    if (t->config.pid == getpid()) {
        return error_set(err, ERROR_REFUSED, "a process cannot throttle itself");
    }
    return 0;
}

struct throttle *throttle_open(const struct throttle_config *config, const pid_t *threads, size_t count,
                               struct error *err) {
    struct throttle *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        error_set(err, ERROR_SYSTEM, "out of memory");
        return NULL;
    }
    t->ops = config->kind == THROTTLE_QUOTA ? &throttle_quota_ops : &throttle_duty_ops;
    t->config = *config;
    if (copy_threads(t, threads, count, err) < 0 || t->ops->open(t, err) < 0) {
        throttle_close(t);
        return NULL;
    }
    return t;
}

int throttle_set(struct throttle *t, unsigned percent, struct error *err) {
    if (percent > THROTTLE_MOST) {
        t->percent = 0;
        struct error ignored = { 0 };
        t->ops->release(t, &ignored);
        return error_set(err, ERROR_USAGE, "cannot throttle by %u %%, %u is the most", percent, THROTTLE_MOST);
    }
    int rc = percent > 0 ? t->ops->hold(t, percent, err) : t->ops->release(t, err);
    t->percent = rc == 0 ? percent : 0;
    return rc;
}

int throttle_check(struct throttle *t, struct error *err) {
    if (t->percent == 0) {
        return 0;
    }
    if (t->ops->check(t, err) < 0) {
        t->percent = 0;
        return -1;
    }
    return 0;
}

void throttle_mind(struct throttle *t, int64_t attention) {
    if (t->ops->mind != NULL) {
        t->ops->mind(t, attention);
    }
}

enum throttle_kind throttle_kind(const struct throttle *t) {
    return t->ops->kind;
}

const char *throttle_kind_name(enum throttle_kind kind) {
    return kind == THROTTLE_DUTY ? "duty" : kind == THROTTLE_QUOTA ? "quota" : "auto";
}

int64_t throttle_held_ns(struct throttle *t) {
    return t->ops->held_ns(t);
}

void throttle_close(struct throttle *t) {
    if (t == NULL) {
        return;
    }
    struct error err = { 0 };
    if (t->state != NULL && t->ops->release(t, &err) < 0) {
        log_warning("%s", err.desc);
    }
    t->ops->close(t);
    free(t->root);
    free(t->threads);
    free(t);
}
