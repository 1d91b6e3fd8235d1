/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's list of all its RAM blocks: what only its human monitor tells ("info ramblock"). Text, and untrusted. */
#ifndef GODWIT_VMM_QEMU_RAMBLOCK_H
#define GODWIT_VMM_QEMU_RAMBLOCK_H

#include "vmm/qemu/qmp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAMBLOCKS_MAX 1024

struct ramblock {
    char id[256];    /* as in QEMU's stream; of a back end its id, or "/objects/ID" */
    uint64_t offset; /* in QEMU's own count of all RAM */
    uint64_t used;   /* bytes that are memory now; it may grow up to `total` */
    uint64_t total;
    uint64_t host;   /* address in the process; 0: not known. QEMU tells it since 8.2; heap.h finds it */
    uint64_t record; /* address of QEMU's own record of the block (heap.h); 0: not looked for */
};

/* Parses one line of the list; false when it is none (the headline among them). A fuzz target. */
bool ramblock_parse(const char *line, size_t length, struct ramblock *b);

/* All blocks. The caller frees *list with free(). None when QEMU refuses to tell: that is no error. */
int ramblock_list(struct qmp *q, struct ramblock **list, size_t *count, struct error *err);

#endif
