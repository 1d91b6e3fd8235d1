/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head of QEMU's migration stream, behind its magic: the configuration and its subsections, up to the first section
 * (vmm/qemu/stream_format.h). Whoever parses a stream asks unit by unit, and decides himself what becomes of each.
 */
#ifndef GODWIT_VMM_QEMU_STREAM_HEAD_H
#define GODWIT_VMM_QEMU_STREAM_HEAD_H

#include "vmm/qemu/cut.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero before the first unit. */
struct stream_head {
    bool has_configuration;
    bool has_addresses;    /* x-ignore-shared: the list of blocks tells where each is */
    uint32_t capabilities; /* of the configuration, yet to come */
};

enum stream_head_says {
    HEAD_WAITS,   /* not all of the unit has come */
    HEAD_UNIT,    /* the unit has `size` bytes, and `body` behind it that nobody has to look at */
    HEAD_OVER,    /* a section begins */
    HEAD_UNKNOWN, /* nothing that is known here: `why`, static */
};

struct stream_head_unit {
    size_t size;
    uint64_t body;
    const char *why;
};

enum stream_head_says stream_head_read(struct stream_head *h, struct cut *c, struct stream_head_unit *u);

#endif
