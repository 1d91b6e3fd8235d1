/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest is never left stopped because a process died.
 *
 * The guardian is a tiny process, forked before anything is changed at the source. It shares the VMM's monitor with the
 * engine, and the undo record that the VMM's room keeps in shared memory. It only waits. When the engine ends without a
 * word (SIGKILL, a crash, the OOM killer), the guardian undoes what only the VMM's monitor can undo: a guest stopped in
 * the switchover, capabilities, parameters. What the kernel undoes by itself (userfaultfd, ptrace) needs no guardian;
 * files of the kernel's that were changed (a control group's CPU bandwidth) it writes back from the notes it was given,
 * unless somebody else has changed them since.
 *
 *   engine alive                    guardian: waits on a pipe whose other end only the engine has
 *   engine says "done" and exits    guardian: exits
 *   pipe ends without "done"        guardian: undoes the notes, in their order;
 *                                             vmm->ops->undo(resume unless handed over), exits
 *
 * After guardian_hand_over() the guest at the source must never run again: the guardian then puts the settings back
 * and leaves the guest stopped.
 */
#ifndef GODWIT_MIGRATE_GUARDIAN_H
#define GODWIT_MIGRATE_GUARDIAN_H

#include "base/error.h"
#include "vmm/vmm.h"

#include <stdatomic.h>
#include <sys/types.h>

#define GUARDIAN_NOTES 64

struct guardian {
    pid_t pid;
    int pipe; /* the engine's end */
    struct guardian_record {
        _Atomic bool handed_over, has_file;
        char file[256]; /* valid once has_file is set */
        struct guardian_note {
            _Atomic bool set; /* all of it is valid */
            char path[256];   /* kept when it is no longer set: its place is for the same path */
            char before[64];
            char ours[2][64]; /* what it holds since the last change, or since the one before if that never came */
            unsigned latest;  /* which of them was noted last */
        } notes[GUARDIAN_NOTES];
        _Atomic unsigned note_count;
    } * record; /* shared with the guardian process */
};

/* Forks. Call before any thread starts. */
int guardian_start(struct guardian *g, struct vmm *vmm, struct error *err);
/* From here on nobody lets the guest run at the source. */
void guardian_hand_over(struct guardian *g);
/* `path` is a file of the engine's that must not outlive it: the guardian deletes it if the engine cannot. One at most.
 */
void guardian_note_file(struct guardian *g, const char *path);
/* `guardian` is a struct guardian (the shape is throttle_note_fn's, which says what a note is). If the engine dies,
 * `before` is written to the file `path`, which must exist and hold `ours` then, or that of the note before. While a
 * note stands its `before` stays; NULL forgets it. GUARDIAN_NOTES paths at most, of less than 256 bytes each, lines
 * without an end and of less than 64: -1 for more, and without a guardian. One thread only. */
int guardian_note_text(void *guardian, const char *path, const char *before, const char *ours, struct error *err);
/* What was changed could not be put back (the VMM does not answer): the guardian goes on trying after us. Its pid. */
pid_t guardian_leave(struct guardian *g);
/* All is undone or done: the guardian ends and is waited for. Safe when it was never started. */
void guardian_dismiss(struct guardian *g);

#endif
