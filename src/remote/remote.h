/* SPDX-License-Identifier: Apache-2.0 */
/* A userfaultfd that belongs to another process: created by a system call run inside one of its stopped threads. */
#ifndef GODWIT_REMOTE_REMOTE_H
#define GODWIT_REMOTE_REMOTE_H

#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

#define REMOTE_OTHERS 8

/* What is changed in a process while calls are run in it: all that somebody else needs to put it back when we are
 * killed midway. Plain data. */
struct remote_change {
    int32_t pid;                   /* of the thread whose signals are blocked, the main one */
    int32_t fd;                    /* made in it and not closed yet; -1: none, or it is not known yet */
    uint64_t mask;                 /* the thread's signal mask before */
    int32_t others[REMOTE_OTHERS]; /* userfaultfds that it had before; those are not ours. -1: none */
};

/* Is told of a change before it is made, and as more of it is known; of NULL when all is back. -1: it is not made. Runs
 * on another thread, while the caller waits for it. */
struct remote_witness {
    int (*changes)(void *opaque, const struct remote_change *change, struct error *err);
    void *opaque;
};

/* Creates a userfaultfd of process `pid` and moves it here: afterwards only we hold it, so the kernel undoes all of it
 * when we end, however we end. `flags` as for userfaultfd(2); UFFD_USER_MODE_ONLY lets a VMM without CAP_SYS_PTRACE
 * have one, which is enough for the asynchronous tracker. `witness` may be NULL: then nobody can put back what we leave
 * when we are killed in the middle.
 * Returns the descriptor or -1; *stopped_ns (may be NULL) is how long the target's main thread stood still: from the
 * request to stop until it was let go, over all attempts, so rather too much than too little.
 * Starts a short-lived thread of its own (ptrace belongs to a thread); takes a few seconds at worst. */
int remote_userfaultfd(pid_t pid, int flags, int64_t *stopped_ns, const struct remote_witness *witness,
                       struct error *err);

/* Puts back what somebody left who was killed in the middle of remote_userfaultfd(): the thread's signal mask, if all
 * its signals are blocked still, and the descriptor. May be called for what is back already. -1: it is not; as above.
 */
int remote_put_back(const struct remote_change *change, struct error *err);

#endif
