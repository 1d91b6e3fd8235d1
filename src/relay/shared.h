/* SPDX-License-Identifier: Apache-2.0 */
/* What all connections of a relay have in common: how it was started, and which migrations are under way. */
#ifndef GODWIT_RELAY_SHARED_H
#define GODWIT_RELAY_SHARED_H

#include "relay/allow.h"
#include "relay/migrations.h"
#include "wire/address.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum relay_role {
    RELAY_AT_SOURCE,      /* takes connections of QEMU's, and connects to another relay */
    RELAY_AT_DESTINATION, /* takes connections of relays, and connects to QEMU */
};

struct relay_config {
    enum relay_role role;
    struct address at; /* where it listens; `redirected`: port at this host's loopback, IPv4 and IPv6 */
    bool redirected;
    struct address to;  /* of the source: the destination's relay. Of the destination, unless `original`: QEMU */
    bool original;      /* of the destination: where the source's QEMU wanted to go, when that is on the list */
    struct allow allow; /* and that list */
    int64_t silence;    /* ns after which another relay that says nothing is gone */
    int signal_fd;      /* readable when a signal asks for the end */
    /* Told of what happens, from any thread; takes the reference. NULL: nobody. */
    void (*event)(void *opaque, const char *name, json_t *fields);
    void *opaque;
};

struct shared {
    const struct relay_config *config;
    struct migrations migrations;
    _Atomic unsigned strangers; /* of the destination: connections that have not been opened yet */
};

#endif
