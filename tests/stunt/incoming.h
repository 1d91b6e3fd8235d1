/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The incoming side: reads the device state on a thread of its own, then runs the guest or leaves it paused.
 * A state that does not fit ends the process with a message and status 1, as QEMU does it.
 */
#ifndef STUNT_INCOMING_H
#define STUNT_INCOMING_H

#include "machine.h"

struct incoming *incoming_new(struct machine *machine, struct error *err);
/* Breaks off a load that is still going on. Not under the machine lock. */
void incoming_free(struct incoming *incoming);

/* Under the machine lock. Whether migrate-incoming would be heard. */
int incoming_allowed(const struct incoming *incoming, struct error *err);
/* Takes `fd` over. */
int incoming_begin(struct incoming *incoming, int fd, struct error *err);
/* What query-migrate answers at a destination; a new reference, NULL before the first bytes. */
json_t *incoming_query(const struct incoming *incoming);

#endif
