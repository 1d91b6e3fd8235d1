/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connecting to the other godwit without being deaf meanwhile.
 *
 * Neither the resolution of a name nor the connection blocks: whoever connects waits through a function of his own,
 * which hears signals, a cancel and whatever else there is. A name is resolved by a thread, because nothing else can be
 * done with getaddrinfo(); one that does not come back is left behind.
 */
#ifndef GODWIT_WIRE_CONNECT_H
#define GODWIT_WIRE_CONNECT_H

#include "base/error.h"
#include "wire/address.h"

#include <stdint.h>

struct connect_how {
    int64_t timeout; /* ns for the name, and for each of its addresses */
    /* clock_now() until which it is tried again when nobody listens there yet, or the host or its name cannot be
     * reached. 0: tried once. */
    int64_t retry_until;
    /* Waits until `fd` is readable (-1: for the time alone), at most `timeout_ns`, or less. -1 ends the attempt with
     * its error. NULL: nobody else is to be heard. */
    int (*wait)(void *opaque, int fd, int64_t timeout_ns, struct error *err);
    /* Told once when it failed and is tried again; `why` is the first failure. NULL: nobody. */
    void (*waiting)(void *opaque, const struct error *why);
    void *opaque;
    const char *server; /* a question about what should listen there; NULL: it is 'godwit receive' */
};

/* Returns a connected, blocking descriptor with Nagle off, or -1. */
int connect_to(const struct address *to, const struct connect_how *how, struct error *err);

/* A `wait` for those who hear signals only: `opaque` is a const int * to a descriptor that is readable when the end is
 * wanted. Then fails with ERROR_CANCELLED. */
int connect_wait_for_signal(void *opaque, int fd, int64_t timeout_ns, struct error *err);

/* Where the peer of a connection that was made to `asked` really is: of the addresses that a name has the one that
 * answered. */
int connect_peer(int fd, const struct address *asked, struct address *peer, struct error *err);

#endif
