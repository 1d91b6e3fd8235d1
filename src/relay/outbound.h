/* SPDX-License-Identifier: Apache-2.0 */
/* The source's side: one connection of QEMU's, from its accept to its end. */
#ifndef GODWIT_RELAY_OUTBOUND_H
#define GODWIT_RELAY_OUTBOUND_H

#include "relay/shared.h"

/* A connection that has been accepted and not begun yet: its place in its migration is that of its accept. */
struct outbound;

/* Takes the descriptor over. NULL: it was refused, and that was said. Called in the order of the accepts. */
struct outbound *outbound_begin(struct shared *s, int fd, const char *peer);
/* Until it has ended. Frees it. */
void outbound_run(struct outbound *o);
/* Or it cannot be begun at all, for that reason. Frees it. */
void outbound_refuse(struct outbound *o, const struct error *why);

#endif
