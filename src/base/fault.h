/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault injection, in the product so that every failure path can be taken in the binary that ships.
 *
 * The plan is the environment variable GODWIT_FAULT: "name[@where][=value]" separated by commas, for example
 * "kill@stop,hold@iterate=500,decoder-delay@1=200". Without the variable every question costs one comparison.
 * The names are listed in docs/faults.md, which a test holds against the code.
 */
#ifndef GODWIT_BASE_FAULT_H
#define GODWIT_BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* Whether the plan has `name` at `where` (NULL: anywhere). */
bool fault_planned(const char *name, const char *where);
/* Its value, or `otherwise` when it is not planned or has no value. */
int64_t fault_value(const char *name, const char *where, int64_t otherwise);
/* For faults at a numbered place, such as a channel. */
int64_t fault_value_at(const char *name, unsigned where, int64_t otherwise);

#endif
