/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds threads of another process back for a part of the time: the vCPUs of a guest that writes faster than the link
 * carries.
 *
 * Two actuators behind one ops table (throttle_ops.h):
 *   duty   ptrace: all threads are stopped together for a part of each period. When we end, however we end, the kernel
 *          lets them go: nothing has to be undone.
 *   quota  the CPU bandwidth of the cgroups (v2 cpu.max, v1 cpu.cfs_quota_us) that hold the threads and nothing else.
 *          It outlives us, so whoever throttles tells an undoer first what to write back (throttle_note_fn).
 *
 * All calls of one throttle come from one thread. While duty is in force the process must not wait for any child
 * (waitpid(-1)): the stops of the threads are reported to the whole process, and it would take them for its children's.
 */
#ifndef GODWIT_HOLD_THROTTLE_H
#define GODWIT_HOLD_THROTTLE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define THROTTLE_MOST 99 /* percent */

enum throttle_kind { THROTTLE_AUTO, THROTTLE_DUTY, THROTTLE_QUOTA };

struct throttle;

/* Called before a file is changed to `ours`: writing `before` to `path` puts it back, if it holds `ours` still, or what
 * the note before called so; else somebody else wrote since, and it is left so. Both are NULL once it was put back:
 * there is nothing to undo any more, and the result does not matter. Many notes are undone in the order in which they
 * were made first. -1 refuses the change. */
typedef int throttle_note_fn(void *opaque, const char *path, const char *before, const char *ours, struct error *err);

struct throttle_config {
    pid_t pid;               /* whose threads */
    enum throttle_kind kind; /* THROTTLE_AUTO is duty: it fails safe */
    const char *root;        /* before /proc and /sys; "" but for tests */
    int64_t attention;       /* ns: duty lets the threads run while nobody has called throttle_set() or
                                throttle_check() for so long; 0: it does not mind */
    throttle_note_fn *note;  /* NULL: nobody undoes a quota; it is then refused */
    void *opaque;
};

/* Looks whether these threads can be throttled; changes nothing yet. NULL on error, which says why not. `threads` and
 * config->root are copied. */
struct throttle *throttle_open(const struct throttle_config *config, const pid_t *threads, size_t count,
                               struct error *err);

/* From now on the threads get 100 - percent of the time. 0 lets them go at once: when this returns none of them is
 * held. Up to THROTTLE_MOST. -1: it is not so, and none is held. Whoever wants the VMM to stop the guest lets go first:
 * each vCPU would answer only in its next share of the time. */
int throttle_set(struct throttle *t, unsigned percent, struct error *err);

/* An actuator that failed behind the caller's back: -1 with the reason; no thread is held then, and throttle_set() may
 * try again. A debugger that came, somebody else who wrote the quota, a thread of another kind that joined the group. A
 * thread that ended (a vCPU was unplugged) is no failure as long as another one lives. */
int throttle_check(struct throttle *t, struct error *err);

/* Another throttle_config.attention, from now on. A quota has no thread that could mind it. */
void throttle_mind(struct throttle *t, int64_t attention);

/* Never THROTTLE_AUTO. */
enum throttle_kind throttle_kind(const struct throttle *t);
const char *throttle_kind_name(enum throttle_kind kind);
/* ns that the threads were held in all, the mean over those that live. Of a quota: percent times time. */
int64_t throttle_held_ns(struct throttle *t);

/* Lets go, puts every file back. NULL is allowed. */
void throttle_close(struct throttle *t);

#endif
