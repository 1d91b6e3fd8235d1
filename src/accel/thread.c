/* SPDX-License-Identifier: Apache-2.0 */
/* accel's one thread: hears the devices, looks at the clock, and calls the caller back. */
#include "accel/internal.h"

#include "base/clock.h"

#include <stdlib.h>
#include <unistd.h>

static bool listens(const struct accel_device *d) {
    return (d->state.health == ACCEL_READY || d->state.health == ACCEL_STARTING) && d->unit->fd >= 0;
}

/* With the lock held. */
static void run_timers(struct accel *a) {
    int64_t now = clock_now();
    a->armed = NEVER;
    for (unsigned i = 0; i < a->devices; i++) {
        int64_t next = driver_tick(a, &a->device[i], now);
        if (next < a->armed) {
            a->armed = next;
        }
    }
}

/* What was taken off `a` for the callbacks, which run without the lock. */
struct news {
    struct accel_job *finished;
    struct accel_notice *notices;
};

static struct news take_news(struct accel *a) {
    struct news news = { a->finished, a->notices };
    a->finished = NULL;
    a->finished_tail = &a->finished;
    a->notices = NULL;
    a->notices_tail = &a->notices;
    return news;
}

static void tell(struct accel *a, struct news news) {
    while (news.finished != NULL) {
        struct accel_job *job = news.finished;
        news.finished = job->next; /* before done(): the job is the caller's again from there on */
        job->done(job);
    }
    while (news.notices != NULL) {
        struct accel_notice *n = news.notices;
        news.notices = n->next;
        a->config.changed(a->config.opaque, n->device, n->health, n->why);
        free(n);
    }
}

/* With the lock held: what to wait for. Entry 0 is the wake-up, entry i + 1 device i. */
static void fill(const struct accel *a, struct pollfd *fds) {
    fds[0] = (struct pollfd){ .fd = a->wake_fd, .events = POLLIN };
    for (unsigned i = 0; i < a->devices; i++) {
        fds[i + 1] = (struct pollfd){ .fd = listens(&a->device[i]) ? a->device[i].unit->fd : -1, .events = POLLIN };
    }
}

static void wait_for(struct pollfd *fds, unsigned count, int64_t until) {
    int64_t ns = until == NEVER ? 0 : until - clock_now();
    ns = ns > 0 ? ns : 0;
    struct timespec t = { .tv_sec = ns / CLOCK_S, .tv_nsec = ns % CLOCK_S };
    if (ppoll(fds, count, until == NEVER ? NULL : &t, NULL) <= 0) {
        for (unsigned i = 0; i < count; i++) {
            fds[i].revents = 0;
        }
    }
    uint64_t ignored;
    if ((fds[0].revents & POLLIN) && read(fds[0].fd, &ignored, sizeof(ignored)) < 0) {
        /* Nobody else reads it; and if it were empty that would not matter. */
    }
}

static bool has_news(const struct accel *a) {
    return a->finished != NULL || a->notices != NULL;
}

void *accel_thread(void *opaque) {
    struct accel *a = opaque;
    struct pollfd *fds = a->fds;
    pthread_mutex_lock(&a->lock);
    for (;;) {
        run_timers(a);
        fill(a, fds);
        /* What comes up from here on wakes the thread: a->armed is set, and the descriptors are those of now. */
        int64_t until = has_news(a) ? 0 : a->armed;
        struct news news = take_news(a);
        bool closing = a->closing;
        pthread_mutex_unlock(&a->lock);
        tell(a, news);
        if (closing && until != 0) {
            return NULL;
        }
        wait_for(fds, a->devices + 1, until);
        pthread_mutex_lock(&a->lock);
        for (unsigned i = 0; i < a->devices; i++) {
            struct accel_device *d = &a->device[i];
            if (fds[i + 1].revents != 0 && listens(d) && d->unit->fd == fds[i + 1].fd) {
                driver_hear(a, d);
            }
        }
    }
}
