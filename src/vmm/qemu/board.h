/* SPDX-License-Identifier: Apache-2.0 */
/* What the board is like beside its devices: properties of the machine, where CPUs and memory devices sit. */
#ifndef GODWIT_VMM_QEMU_BOARD_H
#define GODWIT_VMM_QEMU_BOARD_H

#include "vmm/findings.h"
#include "vmm/qemu/qmp.h"

/* {"kvm": bool, "machine": {name: value}, "memory": {id: {"addr", "slot", …}}, "places": [{"socket-id", …} a vCPU]}.
 * `cpus` is the answer to query-cpus-fast. What this QEMU does not tell is left out. NULL with err; a new reference. */
json_t *board_describe(struct qmp *q, const json_t *cpus, struct error *err);

/* Refuses what differs, as far as both ends tell it: a property that one of them does not know, or leaves to itself
 * ("auto"), is passed over. */
void board_match(const json_t *here, const json_t *there, struct findings *found);

#endif
