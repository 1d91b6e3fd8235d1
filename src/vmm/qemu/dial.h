/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connecting to where a monitor listens: PATH, unix:PATH or tcp:HOST:PORT (an IPv6 address in brackets). A path that
 * begins like one of these words is written unix:PATH.
 */
#ifndef GODWIT_VMM_QEMU_DIAL_H
#define GODWIT_VMM_QEMU_DIAL_H

#include "base/error.h"

#include <stdint.h>

/* A connected socket, or -1. A full backlog of a unix socket is retried until the deadline. */
int dial(const char *where, int64_t deadline, struct error *err);

#endif
