/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GODWIT_ACCEL_EMULATED_H
#define GODWIT_ACCEL_EMULATED_H

#include "accel/unit.h"

/* One packet from the device: makes WELCOME ready the unit, and hands COMPLETE on to unit_result(). -1: no device says
 * that. Here for the fuzzer. */
int emulated_hear(struct accel_unit *unit, const void *packet, size_t size, struct error *err);
/* The part of it that looks at a COMPLETE packet only. */
int emulated_parse_result(const void *packet, size_t size, struct accel_result *result, struct error *err);

#endif
