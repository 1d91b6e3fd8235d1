/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/events.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEPT_MOST ((size_t)1 << 20) /* bytes */
#define CLOSE_PATIENCE 2            /* s */

struct events_writer {
    int fd;
    pthread_t thread;
    pthread_mutex_t lock;   /* owns all below */
    pthread_cond_t changed; /* text came, it ends, or all is written */
    char *text;             /* KEPT_MOST bytes; handed out so far and not yet taken by the thread */
    size_t length;
    char *taken; /* the same size: what the thread writes */
    bool writing, ending;
    bool left;     /* by events_close(), which has waited long enough: the thread frees all of it */
    unsigned lost; /* events since the last one that was kept */

    /* The thread's own. */
    bool torn; /* the file ends within a line */
    bool complained;
};

/* Whole lines in one write where the file takes them, so that two sides that share it do not mix within a line. */
static void write_lines(struct events_writer *w, const char *text, size_t length) {
    size_t done = 0;
    if (w->torn) {
        w->torn = write(w->fd, "\n", 1) != 1;
    }
    while (!w->torn && done < length) {
        ssize_t n = write(w->fd, text + done, length - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            w->torn = done > 0 && text[done - 1] != '\n';
            break;
        }
        done += (size_t)n;
    }
    if (done < length && !w->complained) {
        w->complained = true;
        log_warning("events are lost: the file takes no more of them: %s", strerror(errno));
    }
}

static void free_writer(struct events_writer *w) {
    if (w->fd >= 0) {
        close(w->fd);
    }
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w->text);
    free(w->taken);
    free(w);
}

static void *write_thread(void *opaque) {
    struct events_writer *w = opaque;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->length == 0 && !w->ending) {
            pthread_cond_wait(&w->changed, &w->lock);
        }
        if (w->length == 0) {
            break;
        }
        char *text = w->text;
        size_t length = w->length;
        w->text = w->taken;
        w->taken = text;
        w->length = 0;
        pthread_mutex_unlock(&w->lock);
        write_lines(w, text, length);
        pthread_mutex_lock(&w->lock);
    }
    w->writing = false;
    bool left = w->left;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    if (left) {
        free_writer(w);
    }
    return NULL;
}

static struct events_writer *new_writer(const char *path, struct error *err) {
    pthread_condattr_t monotonic;
    struct events_writer *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory for events");
        return NULL;
    }
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    w->text = malloc(KEPT_MOST);
    w->taken = malloc(KEPT_MOST);
    w->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (w->fd < 0) {
        error_errno(err, ERROR_USAGE, "cannot write events to %s", path);
    } else if (w->text == NULL || w->taken == NULL) {
        error_set(err, ERROR_SYSTEM, "no memory for events");
    } else {
        return w;
    }
    free_writer(w);
    return NULL;
}

int events_open(struct events *e, const char *path, struct error *err) {
    e->writer = NULL;
    if (path == NULL) {
        return 0;
    }
    struct events_writer *w = new_writer(path, err);
    if (w == NULL) {
        return -1;
    }
    w->writing = true;
    errno = pthread_create(&w->thread, NULL, write_thread, w);
    if (errno != 0) {
        error_errno(err, ERROR_SYSTEM, "cannot start a thread for events");
        free_writer(w);
        return -1;
    }
    e->writer = w;
    return 0;
}

static json_t *event(const char *name) {
    return json_pack("{s:s, s:f}", "event", name, "time", (double)clock_wall() / 1e9);
}

/* The caller holds the lock. False: there is no room. Takes the reference. */
static bool keep(struct events_writer *w, json_t *line) {
    size_t room = KEPT_MOST - w->length;
    size_t n = json_dumpb(line, w->text + w->length, room, JSON_COMPACT | JSON_REAL_PRECISION(16));
    json_decref(line);
    if (n >= room) {
        return false;
    }
    w->length += n;
    w->text[w->length++] = '\n';
    return true;
}

void events_emit(struct events *e, const char *name, json_t *fields) {
    struct events_writer *w = e->writer;
    if (w != NULL) {
        json_t *line = event(name);
        if (fields != NULL) {
            json_object_update(line, fields);
        }
        LOCK_GUARD(&w->lock);
        if (w->lost > 0) {
            json_t *lost = event("lost");
            json_object_set_new(lost, "count", json_integer(w->lost));
            w->lost = keep(w, lost) ? 0 : w->lost;
        }
        if (w->lost > 0) {
            json_decref(line);
            w->lost++;
        } else if (!keep(w, line)) {
            w->lost = 1;
        }
        pthread_cond_broadcast(&w->changed);
    }
    json_decref(fields);
}

void events_close(struct events *e) {
    struct events_writer *w = e->writer;
    if (w == NULL) {
        return;
    }
    e->writer = NULL;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += CLOSE_PATIENCE;
    pthread_mutex_lock(&w->lock);
    w->ending = true;
    pthread_cond_broadcast(&w->changed);
    while (w->writing && pthread_cond_timedwait(&w->changed, &w->lock, &until) != ETIMEDOUT) {
    }
    bool writing = w->writing;
    pthread_t thread = w->thread;
    w->left = writing;
    pthread_mutex_unlock(&w->lock);
    if (writing) {
        log_warning("the last events are not written: their file takes nothing");
        pthread_detach(thread); /* it ends with the process, or when the file takes them after all */
        return;
    }
    pthread_join(thread, NULL);
    free_writer(w);
}
