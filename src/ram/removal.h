/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that the guest gives back while it is moved (balloon, free page reporting).
 *
 * QEMU punches them out of the RAM file, and no tracker sees it: write protection outlives the page as a marker in the
 * page table, so the kernel does not report the page as written (tests/platform/test_holes.c). The file does tell that
 * something was removed, by inotify, though not where (backing_ops.watch). When it has told, the holes are looked up,
 * and what the destination holds there is sent as zero: it gets its memory back too.
 *
 * Of memory that is private to QEMU nobody tells (backing.silent): there what is there is asked each time.
 */
#ifndef GODWIT_RAM_REMOVAL_H
#define GODWIT_RAM_REMOVAL_H

#include "base/error.h"
#include "ram/block.h"

struct removal {
    int fd;    /* inotify; -1: not watching */
    bool told; /* something was removed before the last look */
};

int removal_watch(struct removal *r, const struct ram *ram, struct error *err);
/* Main thread, between passes, behind the scan that protects and before anything is read: marks as dirty what was sent
 * with content and is a hole now, and what was given back otherwise. Where files tell it costs a look at an empty queue
 * when nothing was removed since the last call. */
int removal_mark(struct removal *r, struct ram *ram, struct error *err);
/* The sent pages of [first, end), a hole, become dirty: they will be read as zeros, and zeros are sent as such. */
void removal_mark_hole(struct ram_block *b, uint64_t first, uint64_t end);
void removal_close(struct removal *r);

#endif
