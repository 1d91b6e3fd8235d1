/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --events FILE: one JSON object a line while the migration runs; all that draws or reports reads it.
 *
 * A file that takes no more (a full disk, RLIMIT_FSIZE) is no reason to end a migration: it is said once, as a warning,
 * and each event is tried again. What was torn is ended with a newline, so that readers lose that line and no other.
 */
#ifndef GODWIT_MIGRATE_EVENTS_H
#define GODWIT_MIGRATE_EVENTS_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>

struct events {
    int fd;                /* valid when `open` */
    bool open;             /* somebody asked for events */
    bool torn, complained; /* the last line is not whole; it was said that the file takes no more */
};

/* Opens for appending. `path` NULL: events go nowhere. */
int events_open(struct events *e, const char *path, struct error *err);
/* Writes {"event": name, "time": seconds since the epoch, …fields}. Takes the reference; fields may be NULL. */
void events_emit(struct events *e, const char *name, json_t *fields);
void events_close(struct events *e);

#endif
