/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where QEMU has its RAM blocks: its own list, with addresses that are proved, and the mappings of its process.
 *
 *   "info ramblock"  ──► id, size, and since 8.2 the address
 *   QEMU's heap      ──► the address, before that (heap.h)
 *
 * Is it right to read and write there? QEMU tells the address and is not trusted; but it is an address in the process
 * itself, in memory that the caller sees to be private to it and its to write: whatever it names, and whatever it maps
 * there by the time that we write, it harms nobody else by it. What a *guest* could make up is another matter: a heap
 * may hold what a guest has sent. So no address is believed unless memory of which the place is known otherwise is
 * found by the same way where it is: each named file of guest RAM where the kernel says that it is mapped, and, where
 * there is none, the guest's first MiBs where QEMU says that it has them ("gpa2hva").
 */
#ifndef GODWIT_VMM_QEMU_LOOK_H
#define GODWIT_VMM_QEMU_LOOK_H

#include "host/process.h"
#include "vmm/qemu/ramblock.h"
#include "vmm/vmm.h"

struct qemu;

struct look {
    struct ramblock *blocks; /* `host` is 0 where it is not known or not proved */
    size_t count;
    struct mapping *maps; /* of the process, in address order */
    size_t map_count;
    int memory; /* /proc/PID/mem, for reading or (destination) for both; -1: it may not be opened */
    bool proved;
};

#define LOOK_CLOSED                                                                                                    \
    (struct look) {                                                                                                    \
        .memory = -1                                                                                                   \
    }

/* Lists the blocks, with their addresses where those are known and proved by the named files in vmm->ram. A monitor
 * that tells nothing gives an empty list. look_close() may be called whatever it returns. */
int look_open(struct qemu *q, struct look *l, struct error *err);
void look_close(struct look *l);
#define CLEANUP_LOOK __attribute__((cleanup(look_close)))

/* The same with no address: for who has them. */
int look_list(struct qemu *q, struct look *l, struct error *err);

/* The block of a RAM back end: of its id, or of its path. NULL: none. */
const struct ramblock *look_backend(const struct look *l, const char *id);
bool look_is_named(const struct ramblock *b, const char *id);

/* What the process has at [start, start + size): nothing (or not all of it, or different things), memory of its own,
 * a file for itself (with the file's first byte at `start`), a file shared. All of it readable and writable. */
enum look_span { LOOK_NOTHING, LOOK_ANONYMOUS, LOOK_PRIVATE_FILE, LOOK_SHARED_FILE };
/* *first is its first mapping. */
enum look_span look_at(const struct look *l, uint64_t start, uint64_t size, const struct mapping **first);

/* What was told of a block that is in vmm->ram and found by its address: kept until it is forgotten, or all are.
 * qemu_check_memory() compares. */
int look_remember(struct qemu *q, const struct ramblock *b, struct error *err);
void look_forget(struct qemu *q, const char *id);
void look_forget_all(struct qemu *q);

#endif
