/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses of a name, found by a thread, so that a name service that hangs holds up nobody. */
#ifndef GODWIT_WIRE_RESOLVE_H
#define GODWIT_WIRE_RESOLVE_H

#include "base/error.h"
#include "wire/address.h"

struct addrinfo;
struct resolve;

/* Begins to. NULL on error. */
struct resolve *resolve_begin(const struct address *a, struct error *err);
/* Readable when the result is there. */
int resolve_poll_fd(const struct resolve *r);
/* Once it is there: getaddrinfo()'s result, and the list, which is resolve_end()'s to free. */
int resolve_result(const struct resolve *r, const struct addrinfo **list);
/* Whether it is there or not: a thread that is still at it is left alone and frees what it has. NULL is allowed. */
void resolve_end(struct resolve *r);

#endif
