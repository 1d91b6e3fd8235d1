/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef GODWIT_VMM_QEMU_INTERNAL_H
#define GODWIT_VMM_QEMU_INTERNAL_H

#include "host/process.h"
#include "vmm/qemu/qemu.h"
#include "vmm/qemu/query.h"

#include <stdatomic.h>

#define DEVICE_FD_NAME "godwit-device"
/* How often a state is looked at when no event says that it changed. */
#define POLL_INTERVAL (50 * CLOCK_MS)

/* What was done to QEMU and is not undone yet: bits of undo_record.done. Set before the action, cleared after its undo.
 */
enum undo_step {
    UNDO_CAPABILITIES = 1 << 0,
    UNDO_PARAMETERS = 1 << 1,
    UNDO_FD = 1 << 2,        /* a descriptor may be left with QEMU */
    UNDO_MIGRATION = 1 << 3, /* a migration may be under way, the guest stopped by it */
    UNDO_LOAD = 1 << 4,      /* the destination has begun to load: there is no way back */
};

/* Lives in shared memory made at open, so that a guardian forked later sees what the engine did up to the instant it
 * was killed. Plain data without pointers. Everything a step needs is written before its bit. */
struct undo_record {
    _Atomic unsigned done;
    enum vmm_side side;
    bool guest_ran;
    struct {
        char name[64];
        bool was;
    } capabilities[32];
    size_t capability_count;
    struct {
        bool has_numbers, has_tls_creds, has_mode;
        int64_t max_bandwidth;  /* bytes/s */
        int64_t downtime_limit; /* ms */
        char tls_creds[256];
        char mode[32];
    } parameters;
};

struct qemu {
    struct vmm vmm; /* first: the ops are given its address */
    struct qmp *qmp;
    int lock; /* the abstract socket whose name says that this guest is taken */
    struct undo_record *undo;
    bool ran;           /* this side let the guest run */
    uint64_t all_ram;   /* bytes of all RAM blocks, QEMU's own included, at the inspection; 0: it does not tell */
    int64_t stopped_at; /* clock_now() of the last STOP event, 0: none since it was cleared */
};

static inline struct qemu *qemu_of(struct vmm *vmm) {
    return (struct qemu *)vmm;
}

struct qemu_shield {
    struct qmp *qmp;
    bool before;
};

static inline void cleanup_shield(const struct qemu_shield *s) {
    qmp_shield(s->qmp, s->before);
}

/* Until the end of the scope only the deadline ends waits: what puts things back, and what must not be left half-done,
 * goes on although the owner wants the migration to end. */
#define SHIELD(q)                                                                                                      \
    __attribute__((cleanup(cleanup_shield))) const struct qemu_shield shield = { (q)->qmp, qmp_shield((q)->qmp, true) }

static inline void undo_note(struct undo_record *u, unsigned step) {
    atomic_fetch_or(&u->done, step);
}

static inline void undo_forget(struct undo_record *u, unsigned step) {
    atomic_fetch_and(&u->done, ~step);
}

static inline bool undo_has(struct undo_record *u, unsigned step) {
    return (atomic_load(&u->done) & step) != 0;
}

/* qemu.c */
int qemu_close_fd(struct qemu *q, struct error *err);

/* inspect.c, blockers.c, ram.c */
int qemu_inspect(struct vmm *vmm, enum vmm_side side, struct findings *found, struct error *err);
/* What writes the guest's RAM unseen. */
int qemu_find_blockers(struct qemu *q, struct findings *found, struct error *err);
/* Fills vmm->ram with the back ends that can be moved; each of the others is refused. */
int qemu_find_ram(struct qemu *q, struct findings *found, struct error *err);
int qemu_unchanged(struct vmm *vmm, struct error *err);
void qemu_free_ram(struct vmm *vmm);

/* describe.c, match.c */
json_t *qemu_describe(struct vmm *vmm, struct error *err);
int qemu_cpu_threads(struct vmm *vmm, pid_t **threads, size_t *count, struct error *err);
int qemu_match(struct vmm *vmm, json_t *source, struct findings *found, struct error *err);

/* settings.c: capabilities and parameters of QEMU's own migration. apply() notes in the undo record what it finds, then
 * sets what differs from what godwit needs; restore() puts back what the record says. */
int qemu_settings_apply(struct qemu *q, struct error *err);
/* Fills the record as if apply() had run and had found QEMU's defaults. */
int qemu_settings_assume(struct qemu *q, struct error *err);
int qemu_settings_restore(struct qemu *q, struct error *err);
int qemu_set_downtime_limit(struct qemu *q, int64_t ms, struct error *err);

/* switchover.c */
int qemu_prepare(struct vmm *vmm, struct error *err);
int qemu_stop(struct vmm *vmm, int fd, int64_t *stopped_at, struct error *err);
int qemu_release_device_state(struct vmm *vmm, struct error *err);
int qemu_wait_saved(struct vmm *vmm, int64_t timeout_ns, struct error *err);

/* undo.c */
int qemu_undo(struct vmm *vmm, bool resume, struct error *err);
/* `cont`, tried again for about two seconds: the other end may hold the locks of the disks a little longer. */
int qemu_cont(struct qemu *q, struct error *err);

/* incoming.c */
int qemu_load_begin(struct vmm *vmm, int fd, struct error *err);
int qemu_wait_loaded(struct vmm *vmm, int64_t timeout_ns, struct error *err);
int qemu_run(struct vmm *vmm, struct error *err);
void qemu_settle(struct vmm *vmm);
int qemu_discard(struct vmm *vmm, struct error *err);

#endif
