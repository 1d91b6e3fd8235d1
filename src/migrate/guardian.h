/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest is never left stopped because a process died, or hangs.
 *
 * The guardian is a tiny process, forked before anything is changed in a VMM. It shares the VMM's monitor and the
 * ledger with the engine, and only waits. When the engine ends without a word (SIGKILL, a crash, the OOM killer), the
 * guardian undoes what the ledger says. What the kernel undoes by itself (userfaultfd, ptrace) needs no guardian.
 *
 *   engine alive                    guardian: waits on a socket whose other end only the engine has
 *   engine says "done" and exits    guardian: exits
 *   engine silent for SILENCE while the ledger says that the guest stands still or is held back, and that the
 *   source may run it               guardian: SIGKILL to the engine, then as below
 *   the socket ends without "done"  guardian: at the source: files put back, vmm->ops->undo (it resumes the guest while
 *                                             the ledger says that the source may run it), exits
 *                                             at the destination: vmm->ops->discard; the guest is never run
 *
 * Silent is an engine whose main thread does not call ledger_beat(): stopped by a signal or a frozen control group, or
 * in a system call that does not return. All waits of that thread beat (docs/correctness.md).
 *
 * The socket is a seam: an engine that has given up its privileges will ask the guardian for what needs them.
 */
#ifndef GODWIT_MIGRATE_GUARDIAN_H
#define GODWIT_MIGRATE_GUARDIAN_H

#include "base/error.h"
#include "vmm/vmm.h"

#include <sys/types.h>

struct guardian {
    pid_t pid;             /* 0: none */
    int channel;           /* the engine's end */
    struct ledger *ledger; /* the VMM's */
};

/* Forks. Call when the ledger has begun (vmm->ops->begin) and before any thread starts. */
int guardian_start(struct guardian *g, struct vmm *vmm, struct error *err);
/* `path` is a file of the engine's that must not outlive it: changed_files.h. */
void guardian_note_file(struct guardian *g, const char *path);
/* `guardian` is a struct guardian (the shape is throttle_note_fn's, which says what a note is; the rest is
 * changed_file_note()'s). -1 also without a guardian. */
int guardian_note_text(void *guardian, const char *path, const char *before, const char *ours, struct error *err);
/* What was changed could not be put back (the VMM does not answer): the guardian goes on trying after us. Its pid. */
pid_t guardian_leave(struct guardian *g);
/* All is undone or done: the guardian ends and is waited for. Safe when it was never started. */
void guardian_dismiss(struct guardian *g);

#endif
