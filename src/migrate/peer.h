/* SPDX-License-Identifier: Apache-2.0 */
/* The other side, as the source has it: the link, what carries RAM and device state, the reply that is waited for. */
#ifndef GODWIT_MIGRATE_PEER_H
#define GODWIT_MIGRATE_PEER_H

#include "wire/conn.h"
#include "wire/hello.h"
#include "wire/link.h"

#include <jansson.h>
#include <stdint.h>

struct peer {
    uint8_t session[SESSION_SIZE];
    struct link *link; /* NULL: not connected yet */
    struct conn *channels;
    unsigned channel_count; /* connected */
    struct conn device;     /* fd -1: not connected */
    json_t *reply;          /* not yet taken */
};

/* Bytes that the sockets of the channels have taken and the peer has not acknowledged. */
uint64_t peer_queued(const struct peer *p);
/* Bytes that were sent on the control connection and the channels. */
uint64_t peer_sent(const struct peer *p);

/* The destination says what receiving costs it ("load"): all of it is the peer's, and what makes no sense is unknown.
 */
struct ram_send;
void peer_take_load(struct ram_send *send, json_t *message);

#endif
