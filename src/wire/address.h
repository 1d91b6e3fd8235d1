/* SPDX-License-Identifier: Apache-2.0 */
/* Where a godwit listens: `tcp:HOST:PORT` (`tcp:[::1]:4914` for IPv6) or `unix:PATH`. */
#ifndef GODWIT_WIRE_ADDRESS_H
#define GODWIT_WIRE_ADDRESS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct address {
    enum { ADDRESS_TCP, ADDRESS_UNIX } kind;
    char host[256]; /* the path for ADDRESS_UNIX */
    char port[16];
};

int address_parse(const char *text, struct address *a, struct error *err);

/* Listens; returns a non-blocking descriptor. A stale socket file of a unix address is replaced, a live one is not. */
int address_listen(const struct address *a, struct error *err);

/* Accepts one connection: a non-blocking descriptor and the peer's name for messages, or -1 when none waits. */
int address_accept(int listener, char *peer, size_t peer_size);

/* Sets how long unacknowledged data may stay unanswered before the connection counts as broken. */
void address_set_timeout(int fd, int64_t timeout_ns);

#endif
