/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events of a monitor between the moment they are read and the moment they are handed out.
 *
 * A VMM can send any number of them, of any size. Of each only what is used is kept, in a ring of fixed size, and only
 * of those that somebody has asked for: a monitor that floods costs time, and no memory.
 */
#ifndef GODWIT_VMM_QEMU_EVENT_H
#define GODWIT_VMM_QEMU_EVENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVENTS_MAX 64

struct qmp_event {
    char name[32];
    char word[32];   /* its member "status" (MIGRATION) or "reason" (SHUTDOWN), cut to fit; "" */
    char action[16]; /* what QEMU has done about it (BLOCK_IO_ERROR, GUEST_PANICKED, WATCHDOG); "" */
    int64_t when;    /* clock_now() at the moment it was read */
};

struct event_queue {
    const char *const *names; /* what is kept, NULL at its end; not owned. NULL: nothing is */
    struct qmp_event ring[EVENTS_MAX];
    size_t first, count;
    char shutdown[32]; /* the reason of a SHUTDOWN that no RESUME has followed, asked for or not; "" */
};

/* Keeps the event that `message` is, if it is one that is asked for. Too many: the oldest goes of which another of its
 * name and action came later; where there is none, the oldest. False: not kept. */
bool event_queue_add(struct event_queue *q, const json_t *message, int64_t when);
/* The oldest, taken out; false when there is none. */
bool event_queue_take(struct event_queue *q, struct qmp_event *event);
void event_queue_clear(struct event_queue *q);

#endif
