/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A control connection that has not yet brought its guest: from its hello until the whole of its `inspect` request.
 *
 * Anybody can say a right hello, so a candidate gets nothing that others would miss: no thread, no more than one
 * message's memory, CANDIDATE_PATIENCE in all. Pings show that it lives and buy it no time. It may send `inspect`,
 * `abort` and pings; anything else, too many pings, or silence, and it is sent away. Many can wait side by side, so
 * that the real source, which brings its guest at once, is not kept out by them.
 *
 * All of it works on a descriptor that does not block, and reads to the end of the request and not a byte further: the
 * link (wire/link.h) goes on from there.
 */
#ifndef GODWIT_MIGRATE_CANDIDATE_H
#define GODWIT_MIGRATE_CANDIDATE_H

#include "base/clock.h"
#include "base/error.h"
#include "wire/hello.h"

#include <jansson.h>
#include <stdint.h>

#define CANDIDATE_PATIENCE (10 * CLOCK_S) /* from its hello to the whole of its `inspect` */
#define CANDIDATE_PINGS 32                /* a source sends one a second */

struct candidate {
    uint8_t session[SESSION_SIZE]; /* that its welcome carried */
    uint8_t head[4];
    char *text;    /* NULL while the head of a message is read */
    uint32_t size; /* of the text */
    uint32_t have; /* bytes of the head, or of the text */
    unsigned pings;
    int64_t heard_at; /* clock_now() */
};

void candidate_begin(struct candidate *c, const uint8_t session[SESSION_SIZE]);
/* There is something to read. 1 and a new reference in *request when its `inspect` is there as a whole; 0: not yet; -1
 * with the reason to send it away. */
int candidate_read(struct candidate *c, int fd, json_t **request, struct error *why);
/* Shows the other end that this one lives. -1 when it takes not even that. */
int candidate_ping(int fd);
/* Sends an `error` message, as far as it goes at once. */
void candidate_refuse(int fd, const struct error *why);
/* Sends a message that is its answer, likewise. */
void candidate_tell(int fd, json_t *message);
/* Frees what was read. All zero is allowed. */
void candidate_end(struct candidate *c);

#endif
