/* SPDX-License-Identifier: Apache-2.0 */
/* The accelerators of one side of a migration: which, what becomes of them, and what is told of it. */
#ifndef GODWIT_MIGRATE_DEVICES_H
#define GODWIT_MIGRATE_DEVICES_H

#include "accel/accel.h"
#include "base/error.h"
#include "migrate/events.h"
#include "params/params.h"

#include <jansson.h>
#include <pthread.h>

struct devices {
    struct accel *accel;  /* NULL: none */
    pthread_mutex_t lock; /* owns changes */
    json_t *changes;      /* array: what became of devices and was not told yet */
};

/* Opens what accel-devices names. With "auto" that there is none is no failure, unless compression=qat asks for one on
 * the side that compresses. */
int devices_open(struct devices *d, const struct params *params, bool compresses, struct error *err);
/* Main thread: tells of devices that were lost or came back, as events and warnings. */
void devices_tell(struct devices *d, struct events *events);
/* For the report, with the number of batches that software had to do; NULL when there are no devices. */
json_t *devices_json(struct devices *d, uint64_t fallbacks);
/* Closes the devices; nobody has a job any more, or waits in accel_run(). All zero is allowed. */
void devices_close(struct devices *d);

#endif
