/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a migration stream of QEMU's consists of, for a relay: pages of RAM, and bytes that are passed on as they are.
 *
 * The bytes of all items, one behind the other, are the stream, exactly: item_head() of each, then its `data`. Marks
 * have no bytes; they say where in the stream something stands that a relay may want to know.
 */
#ifndef GODWIT_RELAY_ITEM_H
#define GODWIT_RELAY_ITEM_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ITEM_PAGE_SIZE 4096u
#define ITEM_NAME_MOST 255u
#define ITEM_HEAD_MOST (8 + 1 + ITEM_NAME_MOST + 1)

enum item_kind { ITEM_BYTES, ITEM_PAGE, ITEM_ZERO, ITEM_MARK };

enum item_mark {
    MARK_RAM,        /* the list of RAM blocks is complete */
    MARK_SECTION,    /* a section of RAM is complete */
    MARK_FLUSH,      /* what other channels brought before has to be in place here */
    MARK_SWITCHOVER, /* the guest stands still, what follows is the rest */
    MARK_POSTCOPY,   /* the device state follows in one package; the guest runs at the destination then */
    MARK_RAM_END,    /* the last section of RAM is complete */
    MARK_DEVICES,    /* device state follows, which has no lengths */
    MARK_VM_EOF,     /* QEMU's own end; at most a description for people follows */
    MARK_OPAQUE,     /* from here on nothing is understood */
    MARK_END,        /* of the stream */
};

struct item {
    enum item_kind kind;
    enum item_mark mark;
    const uint8_t *data; /* BYTES: `size` of them; PAGE: ITEM_PAGE_SIZE; the giver's, for the time of the call */
    size_t size;         /* of data */
    const char *block;   /* PAGE, ZERO: name of the RAM block; lives as long as the reader */
    uint64_t offset;     /* of the page in its block, bytes */
    bool named;          /* the stream names the block here; else it is that of the page before */
    uint8_t fill;        /* ZERO: what the stream says that the page is full of; 0 but for odd streams */
};

struct item_sink {
    /* All of the item, or -1. */
    int (*take)(void *opaque, const struct item *i, struct error *err);
    void *opaque;
};

/* The bytes of the stream that stand before `data`; returns how many. */
size_t item_head(const struct item *i, uint8_t out[ITEM_HEAD_MOST]);

#endif
