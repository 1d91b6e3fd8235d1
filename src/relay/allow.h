/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a relay may deliver to when the other one says where QEMU wanted to go: hosts and ports, as
 * HOST[/BITS]:PORT[-PORT], [HOST6][/BITS]:PORT[-PORT] for IPv6. Numbers only: what a name stands for can change.
 */
#ifndef GODWIT_RELAY_ALLOW_H
#define GODWIT_RELAY_ALLOW_H

#include "base/error.h"
#include "wire/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ALLOW_MOST 64

struct allowed {
    int family;       /* AF_INET, AF_INET6 */
    uint8_t host[16]; /* in the network's order; 4 of them for IPv4 */
    unsigned bits;    /* of it that count */
    uint16_t first, last;
};

/* All zeros: nothing is allowed. */
struct allow {
    struct allowed list[ALLOW_MOST];
    size_t count;
};

/* One more; `text` may have tcp: in front. */
int allow_add(struct allow *a, const char *text, struct error *err);
/* Whether the address, tcp with numbers, is on the list; false for any other. */
bool allow_has(const struct allow *a, const struct address *where);

#endif
