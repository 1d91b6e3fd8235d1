/* SPDX-License-Identifier: Apache-2.0 */
/* The destination's side: one connection of another relay's, from its accept to its end. */
#ifndef GODWIT_RELAY_INBOUND_H
#define GODWIT_RELAY_INBOUND_H

#include "relay/shared.h"

/* Connections that have not been opened: strangers, most of them, when there are many. */
#define INBOUND_STRANGERS 64

/* Takes the descriptor over; `shared->strangers` has been counted up for it. */
void inbound_run(struct shared *s, int fd, const char *peer);

#endif
