/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was written, found by content: for memory of a process that no tracker watches (ram_block.compared).
 *
 * All of such a block is read, and a page that is not what was last sent of it was written. Against what was *sent*,
 * not against what was seen at the last look: a page that was written, copied by a pass, and written back to what it
 * was before is the same at both looks, and not at the destination. So it must not be asked while a pass runs, whose
 * threads change what was sent; and it misses nothing, whoever wrote: a look finds what is there.
 */
#ifndef GODWIT_RAM_COMPARE_H
#define GODWIT_RAM_COMPARE_H

#include "base/error.h"
#include "ram/block.h"
#include "ram/digest.h"

#include <stdbool.h>
#include <stdint.h>

/* Called for each run of pages [first, end) of block `block` that differ, in ascending order. */
typedef void ram_differs_fn(void *opaque, uint16_t block, uint64_t first, uint64_t end);

/* Compares all blocks that no tracker watches, but for pages that are dirty already. Main thread, between passes;
 * ram_digests_open() was called. `seen`: what is found counts as sent from here on, for who only watches. `differs` may
 * be NULL. */
int ram_compare(struct ram *ram, const struct digest_key *key, bool seen, ram_differs_fn *differs, void *opaque,
                struct error *err);

#endif
