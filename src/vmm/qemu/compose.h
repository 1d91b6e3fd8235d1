/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an ordinary `migrate-incoming` loads, made of what xen-save-devices-state has saved.
 *
 *   QEVM, version │ configuration │ section "ram"          │ saved sections … EOF │ empty description
 *   ── saved ─────┤ ours          │ ours, where it is due  │ ── saved ────────────┤ ours
 *
 * xen-save-devices-state leaves out what a migration says about itself: the configuration (the machine's type, which
 * the loader compares), all RAM, and the description behind the end. All integers are big-endian.
 *
 * The section "ram" holds the blocks that are to come with the device state: the list of them, by which the loader
 * resizes its own, and each page, a page of zeros as one byte. It has the form that QEMU has sent since 1.7 (version
 * 4); the guest stands still, so one section holds all of it.
 *
 * What was saved is QEMU's word and goes as it is to another QEMU, as it would in a migration. Only its first eight
 * bytes and its last one are looked at: there it is cut.
 */
#ifndef GODWIT_VMM_QEMU_COMPOSE_H
#define GODWIT_VMM_QEMU_COMPOSE_H

#include "vmm/filter.h"
#include "vmm/vmm.h"

#define COMPOSE_SAVED_MAX (UINT64_C(1) << 30) /* bytes: more is no device state */

struct compose {
    const char *machine;        /* its type, as the configuration names it */
    const struct vmm_ram *left; /* blocks of which the section "ram" is made */
    size_t left_count;          /* 0: there is no such section */
    int saved;                  /* what xen-save-devices-state wrote: a descriptor to pread() from */
};

/* Hands all of it to the sink, in order. */
int compose(const struct compose *c, const struct vmm_sink *sink, struct error *err);

#endif
