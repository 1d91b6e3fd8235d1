/* SPDX-License-Identifier: Apache-2.0 */
/* From where the VMM has a block of RAM to the backing that the engine reads and writes. */
#ifndef GODWIT_VIEW_MEMORY_H
#define GODWIT_VIEW_MEMORY_H

#include "base/error.h"
#include "ram/backing.h"
#include "track/tracker.h"
#include "vmm/vmm.h"

/* Of an inspected VMM, process `pid`, which keeps the block and its descriptor until backing_close(), the caller's to
 * call. The first one is only read. `pinned`: as struct backing_memory has it. NULL on error. */
struct backing *memory_open(const struct vmm_ram *ram, pid_t pid, struct error *err);
struct backing *memory_open_to_place(const struct vmm_ram *ram, pid_t pid, const atomic_bool *pinned,
                                     struct error *err);

/* As what a tracker sees a block. */
enum tracker_memory memory_kind(const struct vmm_ram *ram);

/* Bytes of the host's memory that a block has now; 0 when that cannot be told. */
uint64_t memory_held(const struct vmm_ram *ram, pid_t pid);

#endif
