/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A relay as a service: takes connections until a signal asks for its end. Each has a thread, and one more while bytes
 * are carried; a migration of QEMU's is one connection, or one and its channels.
 *
 * The first signal: no connection is taken any more, and it ends when the migrations under way have ended; one that has
 * yet to open a channel fails. The second: they are cut off. Their guests run on at the source, but for those in
 * postcopy, which stand still until a manager recovers them, and those whose source has written its last byte without
 * a return path (docs/correctness.md, section 8).
 */
#ifndef GODWIT_RELAY_SERVICE_H
#define GODWIT_RELAY_SERVICE_H

#include "base/error.h"
#include "relay/shared.h"

/* 0: it was asked to end, and did. -1: it could not begin to listen, or to go on. *left: connections hang, and still
 * have `config` and all that it names; nothing of that may go before the process does. */
int service_run(const struct relay_config *config, bool *left, struct error *err);

#endif
