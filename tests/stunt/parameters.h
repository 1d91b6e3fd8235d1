/* SPDX-License-Identifier: Apache-2.0 */
/* Migration capabilities and parameters: those of QEMU 7.2, kept and given back; three capabilities mean something. */
#ifndef STUNT_PARAMETERS_H
#define STUNT_PARAMETERS_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>

struct parameters {
    json_t *capabilities; /* {name: bool}; owned */
    json_t *values;       /* {name: integer, string or bool}; owned */
};

int parameters_open(struct parameters *parameters, struct error *err);
void parameters_close(struct parameters *parameters);

bool parameters_capability(const struct parameters *parameters, const char *name);
/* [{"state": bool, "capability": name}, …], a new reference. */
json_t *parameters_list_capabilities(const struct parameters *parameters);
/* All of the list or nothing. */
int parameters_set_capabilities(struct parameters *parameters, const json_t *list, struct error *err);
/* All of the object or nothing. */
int parameters_set_values(struct parameters *parameters, json_t *values, struct error *err);

#endif
