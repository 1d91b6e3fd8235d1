/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection that the source's relay accepted says of itself: whose it is, and where it wanted to go. */
#ifndef GODWIT_RELAY_ORIGIN_H
#define GODWIT_RELAY_ORIGIN_H

#include "base/error.h"
#include "wire/address.h"

#include <stdbool.h>
#include <stdint.h>

struct origin {
    char whose[96];   /* the same for all connections of one migration: the process, or the host and where to */
    char wanted[300]; /* tcp:HOST:PORT, numbers; "" when it was not redirected here */
};

/* `redirected`: only what the firewall redirected here is taken. */
int origin_of(int fd, bool redirected, struct origin *o, struct error *err);

/* Whether it wanted to go to `at`. That may be a name, which is waited for at most `timeout` ns: no answer, no. */
bool origin_wanted(const struct origin *o, const struct address *at, int64_t timeout);

#endif
