/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who connects to the port, until it is known what they are. Anybody may, and with anything: a port scanner, a browser,
 * another godwit, a client that says nothing, one that says a right hello and then holds on.
 *
 *   says its hello       5 s, then refused
 *   brings its guest     a source, from its hello to the whole of its `inspect`: 10 s, then refused (candidate.h)
 *   checks               likewise, gets an answer and is done (check.h)
 *   measures the link    10 s, one at a time (measuring.h)
 *
 * Each is refused in one line of the log and one event, and none can keep another out: whichever source brings its
 * guest first is handed on first, and all others wait beside it. There is room for a fixed number. When it is full, the
 * host that has most connections here loses its oldest one: a host with one connection loses it to no crowd.
 */
#ifndef GODWIT_MIGRATE_VISITORS_H
#define GODWIT_MIGRATE_VISITORS_H

#include "base/error.h"
#include "loop/loop.h"
#include "migrate/candidate.h"
#include "migrate/events.h"
#include "migrate/measuring.h"
#include "wire/address.h"
#include "wire/hello.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define VISITORS 32

/* A source that has brought its guest. */
struct arrival {
    int fd; /* the control connection, blocking, nothing read beyond the request; the taker's */
    const char *peer;
    const uint8_t *session; /* SESSION_SIZE bytes */
    json_t *request;        /* its `inspect`; a new reference, the taker's */
};

/* What the visitors ask of whom they come to; `opaque` is visitors_init()'s. */
struct visitors_owner {
    /* The source that is served has connections to come. */
    bool (*awaits_channels)(void *opaque);
    /* A source is being looked at or served: no other one is handed on now. */
    bool (*has_source)(void *opaque);
    /* Its guest fits: no other source, and nobody who measures, is let in. */
    bool (*serves)(void *opaque);
    int (*take_source)(void *opaque, const struct arrival *a, struct error *err);
    /* Whether a channel or device connection with this hello belongs to the source that is served and is the one that
     * comes next; then it is handed on. The descriptor, blocking, is the taker's. */
    bool (*expects)(void *opaque, const struct hello *h);
    int (*take_channel)(void *opaque, const struct hello *h, int fd, struct error *err);
    /* The answer to one who only wants to know (check.h): a new reference. */
    json_t *(*check)(void *opaque, json_t *args);
};

struct visitors;

struct visitor {
    int fd; /* -1: free */
    struct visitors *all;
    char peer[80]; /* "HOST port N", or "a local client" */
    enum visitor_doing { VISITOR_SAYS_HELLO, VISITOR_BRINGS_GUEST, VISITOR_MEASURES, VISITOR_WAS_TOLD } doing;
    uint8_t hello[HELLO_SIZE];
    unsigned have;                 /* bytes of the hello */
    int64_t came_at;               /* clock_now() */
    int64_t until;                 /* clock_now(): then it is sent away */
    struct loop_watch watch;       /* something to read */
    struct loop_deadline deadline; /* `until`, or before it the next look at a candidate */
    bool checks;                   /* VISITOR_BRINGS_GUEST, but only to know whether it would fit */
    struct candidate candidate;
    struct measuring measuring;
};

struct visitors {
    struct loop *loop;
    const struct visitors_owner *owner;
    void *opaque;
    struct events *events;
    int64_t silence; /* ns for which a candidate may say nothing: link-timeout */
    struct loop_watch listener;
    struct loop_deadline again; /* listens again: until then there was no descriptor left to accept with */
    struct visitor at[VISITORS];
    struct refusals {
        int64_t second; /* clock_now() at which this second began */
        unsigned said;  /* in it */
    } refusals;
};

void visitors_init(struct visitors *all, struct loop *loop, const struct visitors_owner *owner, void *opaque,
                   struct events *events, int64_t silence);
/* Listens at `address` from now on. */
int visitors_listen(struct visitors *all, const struct address *address, struct error *err);
/* A source's guest fits: the other candidates are told that the receiver is busy, and nobody measures any more. */
void visitors_make_way(struct visitors *all);
/* Sends everybody away and listens no more. Safe when it never did. */
void visitors_close(struct visitors *all);

#endif
