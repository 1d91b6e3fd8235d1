/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest's CPUs can do. A guest looks at that when it starts and uses it ever after, so the destination's must do
 * all that the source's do; the device state holds registers, and QEMU compares none of this.
 */
#ifndef GODWIT_VMM_QEMU_CPU_H
#define GODWIT_VMM_QEMU_CPU_H

#include "vmm/findings.h"
#include "vmm/qemu/qmp.h"

/* {"vendor", "phys-bits", "words": {"7.0:EBX": bits, …}, "hyperv": ["hv-time", …]} of the CPU object at `path`; what
 * this QEMU does not tell is left out. NULL when QEMU cannot be asked. A new reference. */
json_t *cpu_describe(struct qmp *q, const char *path, struct error *err);

/* Refuses what the destination's (`here`) lacks, by name, and remarks what it has more. */
void cpu_match(const json_t *here, const json_t *there, struct findings *found);

/* QEMU's name of a bit of a word, such as "popcnt"; "CPUID[WORD] bit N" where it has none that is known here. */
void cpu_bit_name(const char *word, unsigned bit, char *name, size_t size);

#endif
