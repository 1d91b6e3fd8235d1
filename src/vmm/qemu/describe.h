/* SPDX-License-Identifier: Apache-2.0 */
/* The list of a guest's devices: what two ends must agree on, and what must not change in between. */
#ifndef GODWIT_VMM_QEMU_DESCRIBE_H
#define GODWIT_VMM_QEMU_DESCRIBE_H

#include "vmm/findings.h"
#include "vmm/qemu/qmp.h"

#define DEVICES_MAX 4096

/* "ID TYPE" of each device that the board did not bring along, sorted. NULL with err; a new reference. */
json_t *describe_devices(struct qmp *q, struct error *err);

/* Walks two such lists at once; a device that is there twice must be there twice in the other. Names those that only
 * `a` has and those that only `b` has. -1: `b` holds something that is no text. */
int compare_devices(const json_t *a, const json_t *b, struct name_list *only_a, struct name_list *only_b);

#endif
