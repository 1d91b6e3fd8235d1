/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first bytes of every connection (docs/protocol.md). The one who connects sends a hello of HELLO_SIZE bytes; the
 * one who listens answers with a welcome of WELCOME_SIZE bytes that accepts it or says why not.
 */
#ifndef GODWIT_WIRE_HELLO_H
#define GODWIT_WIRE_HELLO_H

#include "base/error.h"
#include "wire/conn.h"

#include <stdint.h>

#define PROTOCOL_VERSION 3
#define HELLO_SIZE 40
#define WELCOME_SIZE 32
#define SESSION_SIZE 16
#define MEASURED_SIZE 24

enum hello_role {
    ROLE_CONTROL = 1, /* opens a migration; the welcome carries its session */
    ROLE_CHANNEL = 2, /* RAM batches; carries the session and the channel's number */
    ROLE_DEVICE = 3,  /* the VMM's device state, raw until its end */
    ROLE_CHECK = 5,   /* belongs to no migration: one request and one answer, about a migration that is not made */
    ROLE_RELAY = 6,   /* one connection of QEMU's, carried between two relays; the session is the source's relay's */
    ROLE_MEASURE = 4, /* belongs to no migration: filler that is thrown away, answered by how much came in what time */
};

enum welcome_status {
    WELCOME_OK = 0,
    WELCOME_VERSION = 1, /* the protocol versions differ */
    WELCOME_BUSY = 2,    /* another migration is under way */
    WELCOME_SESSION = 3, /* no such session, or a role or channel that it does not expect */
};

struct hello {
    uint16_t version;
    uint8_t role;
    uint16_t channel;
    uint8_t session[SESSION_SIZE];
};

struct welcome {
    uint16_t version;
    uint8_t status;
    uint8_t session[SESSION_SIZE];
};

void hello_encode(const struct hello *h, uint8_t out[HELLO_SIZE]);
/* 0, or -1 when these bytes are no hello at all (the version is not judged). */
int hello_decode(const uint8_t in[HELLO_SIZE], struct hello *h);
/* Whether these first `n` bytes can still become a hello: tells an HTTP request by its first byte. */
int hello_may_begin(const uint8_t *in, unsigned n);
void welcome_encode(const struct welcome *w, uint8_t out[WELCOME_SIZE]);
int welcome_decode(const uint8_t in[WELCOME_SIZE], struct welcome *w);

/* What a receiver says at the end of a ROLE_MEASURE connection. */
struct measured {
    uint64_t bytes; /* of filler, */
    int64_t time;   /* in so many ns; both at least 1 */
};

/* bytes/s. */
static inline double measured_rate(const struct measured *m) {
    return (double)m->bytes * 1e9 / (double)m->time;
}
void measured_encode(const struct measured *m, uint8_t out[MEASURED_SIZE]);
/* 0, or -1 when these bytes are none. */
int measured_decode(const uint8_t in[MEASURED_SIZE], struct measured *m);

/* The connecting side: sends the hello, then takes the welcome, which fills `session`. */
int hello_send(struct conn *c, struct hello *h, struct error *err);
int hello_receive(struct conn *c, struct hello *h, struct error *err);

#endif
