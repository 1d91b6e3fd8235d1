/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Samples, parameters and decisions of converge.h as JSON, so that the events of a run can be put through it again:
 *
 *   {"event": "converge-config", FIELDS}                                   first, and when a parameter changed
 *   {"event": "converge", FIELDS, "action": "go-on", "throttle-next": 80}  each step
 *
 * FIELDS are the members of the struct, with hyphens; enums are words, times ns. Objects may have more in them.
 */
#ifndef GODWIT_POLICY_CONVERGE_JSON_H
#define GODWIT_POLICY_CONVERGE_JSON_H

#include "base/error.h"
#include "policy/converge.h"

#include <jansson.h>

/* A new object with all fields; with the decision's too, unless it is NULL. What is not finite is written as -1, which
 * is no measurement either. */
json_t *converge_input_json(const struct converge_input *in, const struct converge_decision *decision);
json_t *converge_config_json(const struct converge_config *config);

/* Back. All fields must be there, in range; ERROR_USAGE names the one that is not. *in and *config are undefined then.
 */
int converge_input_parse(json_t *object, struct converge_input *in, struct error *err);
int converge_config_parse(json_t *object, struct converge_config *config, struct error *err);

#endif
