/* SPDX-License-Identifier: Apache-2.0 */
/* --events FILE: one JSON object a line while the migration runs; all that draws or reports reads it. */
#ifndef GODWIT_MIGRATE_EVENTS_H
#define GODWIT_MIGRATE_EVENTS_H

#include "base/error.h"

#include <jansson.h>
#include <stdio.h>

struct events {
    FILE *file; /* NULL: nobody asked */
};

/* Opens for appending. `path` NULL: events go nowhere. */
int events_open(struct events *e, const char *path, struct error *err);
/* Writes {"event": name, "time": seconds since the epoch, …fields}. Takes the reference; fields may be NULL. */
void events_emit(struct events *e, const char *name, json_t *fields);
void events_close(struct events *e);

#endif
