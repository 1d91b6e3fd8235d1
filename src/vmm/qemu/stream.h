/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's migration stream, out of which pages of RAM are left that the engine carries itself.
 *
 *   magic  configuration  START ram: list of blocks   PART ram: pages …   END ram: pages   devices
 *   └──────────────────────── read, to the byte ───────────────────────────────────────┘└─ passes ─►
 *
 * All integers are big-endian. What is sent depends on QEMU's version, on the machine type and on capabilities; the
 * stream is asked and nothing else. At the first thing that is not known here everything passes from then on, for good:
 * QEMU's pages are the guest's own, and the last that it sends of a page is right whatever lay there before.
 *
 * A page names its block, or says CONTINUE: the same as the page before. The destination's QEMU must never hear
 * CONTINUE after another block than the source meant. As long as all pages of a block are left out, or none, it does
 * not: QEMU names a block whenever it comes to it from another. But when everything begins to pass while QEMU is in a
 * block whose pages were left out, the destination has not heard the name. So the page that was left out last is kept,
 * and goes out first, with the name: it is as if everything had passed from that page on. Between two sections it comes
 * in a PART of its own.
 */
#ifndef GODWIT_VMM_QEMU_STREAM_H
#define GODWIT_VMM_QEMU_STREAM_H

#include "vmm/filter.h"

/* A filter for the stream of a QEMU whose guest's pages have 4 KiB; NULL when there is no memory. */
struct vmm_filter *qemu_stream_open(const struct vmm_carried *carried, struct error *err);

#endif
