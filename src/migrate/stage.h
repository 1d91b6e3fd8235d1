/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stages of a migration, in order: one table for both sides.
 *
 * The source drives. Its loop runs the source halves one after the other, logs each, and aborts at any. A source half
 * asks for its destination half by sending a request with the stage's name, when it needs it, and waits for the reply;
 * the destination's loop looks the name up in the same table and refuses what is not the stage that may come.
 */
#ifndef GODWIT_MIGRATE_STAGE_H
#define GODWIT_MIGRATE_STAGE_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct source;
struct destination;

struct stage {
    const char *name;
    const char *state; /* QEMU's MigrationStatus for it */
    int (*source)(struct source *s, struct error *err);
    /* Does its half and fills `reply` (an empty object); NULL where the destination has nothing to do. */
    int (*destination)(struct destination *d, json_t *args, json_t *reply, struct error *err);
    bool repeats; /* the source may ask for the destination half again before it asks for the next one */
};

extern const struct stage stages[];
extern const size_t stage_count;

/* Index of a stage, or -1. */
int stage_find(const char *name);

#endif
