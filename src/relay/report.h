/* SPDX-License-Identifier: Apache-2.0 */
/* What a relay says: a line for people, an event for machines. */
#ifndef GODWIT_RELAY_REPORT_H
#define GODWIT_RELAY_REPORT_H

#include "relay/migrations.h"
#include "relay/shared.h"

void report_listening(const struct shared *s, const char *at);
/* Somebody who has no business here, or whose connection cannot be carried at all. */
void report_refused(const struct shared *s, const char *peer, const struct error *why);
/* A connection is open at both ends. */
void report_opened(const struct shared *s, const struct member *m, const char *from, const char *to);
/* It has ended; before migrations_leave(). `why` NULL: well. */
void report_closed(const struct shared *s, const struct member *m, const struct error *why);
/* The migration with that session has. */
void report_end(const struct shared *s, const uint8_t session[SESSION_SIZE], const struct migration_end *end);

#endif
