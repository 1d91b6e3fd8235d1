/* SPDX-License-Identifier: Apache-2.0 */
/* The destination halves of the stages (stage.h). */
#ifndef GODWIT_MIGRATE_DESTINATION_STAGES_H
#define GODWIT_MIGRATE_DESTINATION_STAGES_H

#include "base/error.h"

#include <jansson.h>

struct destination;

int destination_inspect(struct destination *d, json_t *args, json_t *reply, struct error *err);
int destination_attach(struct destination *d, json_t *args, json_t *reply, struct error *err);
int destination_iterate(struct destination *d, json_t *args, json_t *reply, struct error *err);
int destination_stop(struct destination *d, json_t *args, json_t *reply, struct error *err);
int destination_final(struct destination *d, json_t *args, json_t *reply, struct error *err);
int destination_device(struct destination *d, json_t *args, json_t *reply, struct error *err);
int destination_run(struct destination *d, json_t *args, json_t *reply, struct error *err);

#endif
