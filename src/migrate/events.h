/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --events FILE: one JSON object a line while the migration runs; all that draws or reports reads it.
 *
 * A thread of its own writes. What is emitted while a write does not return (a hung NFS, a pipe that nobody reads) is
 * kept up to a bound and then counted: the guest never waits for the file.
 */
#ifndef GODWIT_MIGRATE_EVENTS_H
#define GODWIT_MIGRATE_EVENTS_H

#include "base/error.h"

#include <jansson.h>

struct events {
    struct events_writer *writer; /* NULL: nobody asked */
};

/* Opens for appending and starts the writer. `path` NULL: events go nowhere. */
int events_open(struct events *e, const char *path, struct error *err);
/* Hands over {"event": name, "time": seconds since the epoch, …fields}; never waits for the file. Takes the reference;
 * fields may be NULL. After events that were lost comes {"event": "lost", "count": how many} before the next one. */
void events_emit(struct events *e, const char *name, json_t *fields);
/* Waits until all is written, but not for a file that takes nothing for two seconds. */
void events_close(struct events *e);

#endif
