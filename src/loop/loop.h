/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for several things at once: descriptors and deadlines, each with a function that is called when it is time.
 *
 *   struct loop_watch     a descriptor: its function is called in every turn in which the descriptor is ready
 *   struct loop_deadline  a moment: its function is called once, in the first turn that ends at or after it
 *   loop_turn()           one poll, then first what is ready, in the order in which it was watched, then what is due,
 *                         the earliest first
 *
 * Both structs belong to the part that waits and usually lie inside it, so that to wait allocates nothing and cannot
 * fail. They stay where they are while they are known to a loop. All zeros: not known to any.
 *
 * A function may watch, unwatch, arm and disarm whatever it likes, itself and others that are ready or due in the same
 * turn included: what is unwatched or disarmed is not called any more, what is new waits for the next turn. It must not
 * call loop_turn(). It returns -1 with the error filled to end the turn: then no other function is called in it; a
 * descriptor that was ready still is in the next turn, and a deadline that was due comes in the next turn.
 *
 * A loop belongs to one thread. There is nothing global: a process may have as many as it likes.
 */
#ifndef GODWIT_LOOP_LOOP_H
#define GODWIT_LOOP_LOOP_H

#include "base/error.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `opaque` is the struct's own. */
typedef int loop_fn(void *opaque, struct error *err);

struct loop_watch {
    int fd;       /* not owned; -1: never ready */
    short events; /* POLLIN, POLLOUT or both; 0 is POLLIN. An end or an error of the descriptor is always told */
    loop_fn *ready;
    void *opaque;
    /* the loop's: */
    struct loop_watch *next, *previous;
    bool watched, fired;
};

struct loop_deadline {
    loop_fn *due;
    void *opaque;
    /* the loop's: */
    int64_t at; /* clock_now() */
    struct loop_deadline *next, *previous;
    uint64_t armed_in; /* the turn that it was armed in */
    bool armed;
};

struct loop {
    struct loop_watch *watches, *last_watch; /* in the order in which they came */
    size_t watch_count;
    struct loop_watch *cursor;       /* whose turn it is next while functions are called */
    struct loop_deadline *deadlines; /* the earliest first; among equals in the order in which they came */
    struct pollfd *polled;           /* `room` entries: for loop_turn() alone */
    size_t room;
    uint64_t turn; /* counts them */
    bool turning;
};

/* All zeros is an open loop; this says it in words. */
void loop_init(struct loop *l);
/* Forgets everything; the watches and deadlines may be given to another loop then. Safe more than once. */
void loop_close(struct loop *l);

/* From the next turn on; `w` with fd, events, ready and opaque filled. Watched already: nothing changes. */
void loop_watch(struct loop *l, struct loop_watch *w);
/* `w` is not called any more, the running turn included. Not watched: nothing. */
void loop_unwatch(struct loop *l, struct loop_watch *w);

/* `d`, with due and opaque filled, is called once in the first turn that ends at or after `at` (clock_now()). Armed
 * already: moved. INT64_MAX: disarmed. */
void loop_arm(struct loop *l, struct loop_deadline *d, int64_t at);
void loop_disarm(struct loop *l, struct loop_deadline *d);

/* Waits until a descriptor is ready, the earliest deadline, a signal or `timeout_ns`, whichever comes first, and calls
 * what is ready and due. 0 or less: does not wait. INT64_MAX: waits as long as it takes. -1 with the error of the
 * function that ended the turn, or with one of its own: poll() failed, a watched descriptor is not open. */
int loop_turn(struct loop *l, int64_t timeout_ns, struct error *err);

#endif
