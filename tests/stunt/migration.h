/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outgoing side of QEMU 7.2's migration, without RAM:
 *
 *   none, completed, failed, cancelled
 *     │ migrate
 *   setup ─► active ─► (stop, finish-migrate) ─► pre-switchover ─► device ─► completed (postmigrate)
 *               │                                     │ waits for     │
 *               │                                     │ migrate-continue
 *               └──────── migrate_cancel ─────────────┴───────────────┴──► cancelling ─► (runs again) ─► cancelled
 *   A failed write: failed, and the guest runs again.
 */
#ifndef STUNT_MIGRATION_H
#define STUNT_MIGRATION_H

#include "machine.h"

struct migration *migration_new(struct machine *machine, struct error *err);
/* Cancels and waits. Not under the machine lock. */
void migration_free(struct migration *migration);

/* The rest under the machine lock. */
bool migration_active(const struct migration *migration);
/* Whether `migrate` would be heard. */
int migration_allowed(const struct migration *migration, struct error *err);
/* Takes `fd` over, whatever comes of it. Only when it is allowed. */
int migration_begin(struct migration *migration, int fd, struct error *err);
/* A `migrate` that did not get so far as to have a descriptor. */
void migration_fail_early(struct migration *migration, const struct error *err);
int migration_continue(struct migration *migration, const char *state, struct error *err);
void migration_cancel(struct migration *migration);
/* What query-migrate answers; a new reference. */
json_t *migration_query(struct migration *migration);

#endif
