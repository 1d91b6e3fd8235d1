/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --control PATH: a socket that speaks QMP, with QEMU's own command names, so that clients which know QEMU's migration
 * know ours. Its own thread: it answers while the migration waits for the VMM. One client at a time, like QEMU.
 */
#ifndef GODWIT_MIGRATE_CONTROL_H
#define GODWIT_MIGRATE_CONTROL_H

#include "base/error.h"

#include <jansson.h>

/* Called on the control thread; must be thread-safe. All take the opaque of control_open(). */
struct control_ops {
    json_t *(*query)(void *opaque);      /* query-migrate: a new reference */
    json_t *(*parameters)(void *opaque); /* query-migrate-parameters */
    int (*set_parameters)(void *opaque, json_t *object, struct error *err);
    int (*cancel)(void *opaque, struct error *err);
    int (*force)(void *opaque, struct error *err); /* migrate-force-switchover, ours: the guest is stopped now */
};

struct control;

/* Listens at `path`. NULL on error. */
struct control *control_open(const char *path, const struct control_ops *ops, void *opaque, struct error *err);
/* Ends the thread and removes the socket. NULL is allowed. */
void control_close(struct control *c);

#endif
