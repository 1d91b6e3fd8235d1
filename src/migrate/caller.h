/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one source that is served: its control link, its channels, and what it asks for.
 *
 * The link's messages are taken by the loop; a request waits in `request` until the stages serve it. What the source
 * may say depends on how far the takeover is; anything else ends the migration with its type and the stage in the text.
 *
 * Time: a request that is made while the guest stands still (behind `stop`) says how long its answer may take
 * (`within`). The caller then ends the loop's turn with ERROR_TIMEOUT a little before that is over, so that the source
 * hears why; and once it has been answered, CALLER_GRACE after it, when nothing more was heard: the source has decided
 * by then.
 */
#ifndef GODWIT_MIGRATE_CALLER_H
#define GODWIT_MIGRATE_CALLER_H

#include "base/clock.h"
#include "base/error.h"
#include "loop/loop.h"
#include "migrate/takeover.h"
#include "migrate/visitors.h"
#include "wire/conn.h"
#include "wire/link.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define CALLER_CHANNELS 64
#define CALLER_GRACE (500 * CLOCK_MS)

struct caller {
    struct loop *loop;
    struct takeover *takeover;
    struct link *link; /* NULL: no source is here */
    struct loop_watch watch;
    uint8_t session[SESSION_SIZE];
    struct conn channels[CALLER_CHANNELS];
    unsigned channel_count; /* connected */
    struct conn device;     /* fd -1: not connected; the relay has a copy of it */
    json_t *request;        /* taken from the link, not yet served */
    const char *stage;      /* the last one that was asked for; static */
    bool serving;           /* it was not answered yet */
    bool gave_up;           /* the source said so: the error is its own, whatever its class */
    int64_t until;          /* clock_now() at which the stop's time is over; INT64_MAX: no such time */
    struct loop_deadline over;
};

void caller_init(struct caller *c, struct loop *loop, struct takeover *takeover);
/* `a` is the source now. Takes its descriptor and its request, on failure too. `silence`: link-timeout, ns. */
int caller_take(struct caller *c, const struct arrival *a, int64_t silence, struct error *err);
/* Whether the connection with this hello is the next one of this source's; takes it. */
bool caller_expects(const struct caller *c, const struct hello *h);
void caller_take_channel(struct caller *c, const struct hello *h, int fd, int64_t silence);

/* A request for `stage` (static) begins to be served: its `within` counts from now. Returns the clock_now() at which it
 * has to be answered, if only to say that it took too long; INT64_MAX: at any time. */
int64_t caller_begin(struct caller *c, const char *stage, json_t *request);
/* Answers the request that was begun. Takes the reference to `reply`. */
int caller_reply(struct caller *c, json_t *reply, struct error *err);
/* Tells the source why this side ends: `type` is "error", or "never" (docs/protocol.md). Not when the link is what
 * failed. */
void caller_say_end(struct caller *c, const char *type, const struct error *cause);
/* Waits a moment for the source's word, or the link's own failure, as the reason of a failure that may be its symptom;
 * puts it into `err` when there is one. */
void caller_find_cause(struct caller *c, struct error *err);

/* Bytes received, all connections but the device state's. */
uint64_t caller_received(struct caller *c);
/* The next source may come: everything of this one is closed. Only while no thread uses a channel. */
void caller_forget(struct caller *c);
/* Breaks the channels, so that the threads that read them end. */
void caller_break_channels(struct caller *c);

#endif
