/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void loop_init(struct loop *l) {
    *l = (struct loop){ 0 };
}

void loop_close(struct loop *l) {
    while (l->watches != NULL) {
        loop_unwatch(l, l->watches);
    }
    while (l->deadlines != NULL) {
        loop_disarm(l, l->deadlines);
    }
    free(l->polled);
    loop_init(l);
}

void loop_watch(struct loop *l, struct loop_watch *w) {
    if (w->watched) {
        return;
    }
    w->watched = true;
    w->fired = false;
    w->next = NULL;
    w->previous = l->last_watch;
    *(l->last_watch != NULL ? &l->last_watch->next : &l->watches) = w;
    l->last_watch = w;
    l->watch_count++;
}

void loop_unwatch(struct loop *l, struct loop_watch *w) {
    if (!w->watched) {
        return;
    }
    if (l->cursor == w) {
        l->cursor = w->next;
    }
    *(w->previous != NULL ? &w->previous->next : &l->watches) = w->next;
    *(w->next != NULL ? &w->next->previous : &l->last_watch) = w->previous;
    w->next = w->previous = NULL;
    w->watched = w->fired = false;
    l->watch_count--;
}

void loop_disarm(struct loop *l, struct loop_deadline *d) {
    if (!d->armed) {
        return;
    }
    *(d->previous != NULL ? &d->previous->next : &l->deadlines) = d->next;
    if (d->next != NULL) {
        d->next->previous = d->previous;
    }
    d->next = d->previous = NULL;
    d->armed = false;
}

void loop_arm(struct loop *l, struct loop_deadline *d, int64_t at) {
    loop_disarm(l, d);
    if (at == INT64_MAX) {
        return;
    }
    struct loop_deadline *before = NULL, *after = l->deadlines;
    while (after != NULL && after->at <= at) {
        before = after;
        after = after->next;
    }
    d->at = at;
    d->armed = true;
    d->armed_in = l->turn;
    d->previous = before;
    d->next = after;
    *(before != NULL ? &before->next : &l->deadlines) = d;
    if (after != NULL) {
        after->previous = d;
    }
}

/* Fills l->polled with what is watched. */
static int list_watches(struct loop *l, struct error *err) {
    if (l->watch_count > l->room) {
        struct pollfd *polled = realloc(l->polled, 2 * l->watch_count * sizeof(polled[0]));
        if (polled == NULL) {
            return error_errno(err, ERROR_SYSTEM, "no memory to wait for %zu descriptors", l->watch_count);
        }
        l->polled = polled;
        l->room = 2 * l->watch_count;
    }
    struct pollfd *p = l->polled;
    for (const struct loop_watch *w = l->watches; w != NULL; w = w->next) {
        *p++ = (struct pollfd){ .fd = w->fd, .events = w->events != 0 ? w->events : POLLIN };
    }
    return 0;
}

/* ns to wait at most: -1 without an end. */
static int64_t patience(const struct loop *l, int64_t timeout_ns) {
    int64_t at = l->deadlines != NULL ? l->deadlines->at : INT64_MAX;
    int64_t left = at == INT64_MAX ? INT64_MAX : at - clock_now();
    left = left < timeout_ns ? left : timeout_ns;
    return left == INT64_MAX ? -1 : left > 0 ? left : 0;
}

static int wait_ready(struct loop *l, int64_t timeout_ns, struct error *err) {
    if (list_watches(l, err) < 0) {
        return -1;
    }
    int64_t ns = patience(l, timeout_ns);
    struct timespec limit = { .tv_sec = (time_t)(ns / CLOCK_S), .tv_nsec = ns % CLOCK_S };
    int n = ppoll(l->polled, (nfds_t)l->watch_count, ns >= 0 ? &limit : NULL, NULL);
    if (n < 0 && errno != EINTR) {
        return error_errno(err, ERROR_SYSTEM, "poll");
    }
    const struct pollfd *p = l->polled;
    for (struct loop_watch *w = l->watches; w != NULL; w = w->next, p++) {
        w->fired = n > 0 && p->revents != 0;
        if (n > 0 && (p->revents & POLLNVAL) != 0) {
            return error_set(err, ERROR_SYSTEM, "descriptor %d, which is waited for, is not open", w->fd);
        }
    }
    return 0;
}

static int call_ready(struct loop *l, struct error *err) {
    int rc = 0;
    l->cursor = l->watches;
    while (rc == 0 && l->cursor != NULL) {
        struct loop_watch *w = l->cursor;
        l->cursor = w->next;
        if (w->fired) {
            w->fired = false;
            rc = w->ready(w->opaque, err);
        }
    }
    l->cursor = NULL;
    return rc < 0 ? -1 : 0;
}

/* The earliest that is due and was there when the turn began: one that arms itself in the past waits for the next. */
static struct loop_deadline *next_due(const struct loop *l, int64_t now) {
    struct loop_deadline *d = l->deadlines;
    while (d != NULL && d->at <= now && d->armed_in == l->turn) {
        d = d->next;
    }
    return d != NULL && d->at <= now ? d : NULL;
}

static int call_due(struct loop *l, struct error *err) {
    int64_t now = clock_now();
    for (struct loop_deadline *d; (d = next_due(l, now)) != NULL;) {
        loop_disarm(l, d);
        if (d->due(d->opaque, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int loop_turn(struct loop *l, int64_t timeout_ns, struct error *err) {
    if (l->turning) {
        return error_set(err, ERROR_SYSTEM, "a function that was called by the loop waits in the same loop");
    }
    l->turning = true;
    l->turn++;
    int rc = wait_ready(l, timeout_ns, err);
    if (rc == 0) {
        rc = call_ready(l, err);
    }
    if (rc == 0) {
        rc = call_due(l, err);
    }
    l->turning = false;
    return rc;
}
