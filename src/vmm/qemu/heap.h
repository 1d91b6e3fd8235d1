/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where QEMU has its RAM blocks, for a QEMU that does not tell it (before 8.2): looked up in its heap.
 *
 * QEMU keeps a record of each block (struct RAMBlock), in which stand together
 *
 *     host    8 bytes   the address that we want
 *     …       8
 *     offset  8      ┐
 *     used    8      │  what the monitor tells: offset, used, total and id
 *     total   8      │
 *     …      12      │
 *     id    256, NUL ┘
 *
 * A record is believed when it is the only one in the heap that agrees with what the monitor tells. Whether this QEMU
 * has its records like that at all is the caller's to prove, by a block of which it knows the address.
 */
#ifndef GODWIT_VMM_QEMU_HEAP_H
#define GODWIT_VMM_QEMU_HEAP_H

#include "base/error.h"
#include "host/process.h"
#include "vmm/qemu/ramblock.h"

#include <stdbool.h>
#include <stddef.h>

/* Sets `host` and `record` of the blocks of which there is exactly one record, both 0 of the others. Only what the
 * kernel calls the heap is searched: what of the guest is mapped elsewhere cannot pose as a record. `memory`:
 * /proc/PID/mem. -1: the heap could not be read. */
int heap_find(int memory, const struct mapping *maps, size_t map_count, struct ramblock *blocks, size_t count,
              struct error *err);

/* Whether the record of a block still says what it said. */
bool heap_holds(int memory, const struct ramblock *b);

#endif
