/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the owner of a VMM keeps an eye on while a call into the VMM waits.
 *
 * The owner has a loop of its own, and a call that waits for the VMM keeps it from turning. So every such wait polls
 * the owner's descriptors too, and ends when one of them is readable; and it calls the owner at least twice a second,
 * which may say that it is alive, and may end the wait.
 */
#ifndef GODWIT_VMM_WATCH_H
#define GODWIT_VMM_WATCH_H

#include "base/error.h"

#include <stddef.h>

#define VMM_WATCH_FDS 4

struct vmm_watch {
    int fds[VMM_WATCH_FDS]; /* readable: somebody wants the migration to end. Not owned, never read */
    size_t fd_count;
    int (*tick)(void *opaque, struct error *err); /* -1 ends the wait with its error; NULL: none */
    void *opaque;
};

#endif
