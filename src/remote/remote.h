/* SPDX-License-Identifier: Apache-2.0 */
/* A userfaultfd that belongs to another process: created by a system call run inside one of its stopped threads. */
#ifndef GODWIT_REMOTE_REMOTE_H
#define GODWIT_REMOTE_REMOTE_H

#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

/* Creates a userfaultfd of process `pid` and moves it here: afterwards only we hold it, so the kernel undoes all of it
 * when we end, however we end. `flags` as for userfaultfd(2); UFFD_USER_MODE_ONLY lets a VMM without CAP_SYS_PTRACE
 * have one, which is enough for the asynchronous tracker.
 * Returns the descriptor or -1; *stopped_ns (may be NULL) is how long the target's main thread stood still: from the
 * request to stop until it was let go, over all attempts, so rather too much than too little.
 * Starts a short-lived thread of its own (ptrace belongs to a thread); takes a few seconds at worst. */
int remote_userfaultfd(pid_t pid, int flags, int64_t *stopped_ns, struct error *err);

#endif
