/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#ifndef GODWIT_VMM_QEMU_INTERNAL_H
#define GODWIT_VMM_QEMU_INTERNAL_H

#include "host/process.h"
#include "ledger/ledger.h"
#include "vmm/qemu/qemu.h"
#include "vmm/qemu/query.h"
#include "vmm/qemu/ramblock.h"

#define DEVICE_FD_NAME "godwit-device"
#define QEMU_MACHINE_SIZE 128 /* bytes of a machine type's name, its NUL among them */

/* What the ledger says of what was done to QEMU and is not undone yet. Plain data without pointers; everything that an
 * entry says is written before it is set. What is read back may have been written by a process that died in the middle
 * of it, or spoiled: counts and ends of strings are checked where they are used. */
struct did_capabilities {
    uint32_t count;
    struct {
        char name[64];
        uint8_t was;
    } item[32];
};

struct did_parameters {
    uint8_t has_numbers, has_tls_creds, has_mode;
    int64_t max_bandwidth;  /* bytes/s */
    int64_t downtime_limit; /* ms */
    char tls_creds[256];
    char mode[32];
};

struct did_descriptor { /* one may be left with QEMU */
    char name[32];
};

struct did_migration { /* one may be under way, the guest stopped by it */
    uint8_t guest_ran; /* before: valid also when the entry is not set */
};

struct did_save {      /* the guest may be stopped by us without a migration */
    uint8_t guest_ran; /* before */
};

struct did_fdset { /* descriptors with this mark ("opaque") may be left with QEMU */
    char mark[32];
};

struct did_load { /* the destination has begun to load: there is no way back */
    uint8_t unused;
};

struct qemu {
    struct vmm vmm; /* first: the ops are given its address */
    struct qmp *qmp;
    enum vmm_side side;
    struct {
        struct did_capabilities *capabilities;
        struct did_parameters *parameters;
        struct did_descriptor *descriptor;
        struct did_migration *migration;
        struct did_save *save;
        struct did_fdset *fdset;
        struct did_load *load;
    } did;                  /* entries of the ledger; NULL before begin(), and what a dead engine did not record */
    uint64_t all_ram;       /* bytes of all RAM blocks, QEMU's own included, at the inspection; 0: it does not tell */
    bool resumed;           /* a RESUME event has come since it was cleared */
    char by_itself[32];     /* the last event with which the guest stopped by itself; "" since it was cleared */
    int64_t stopped_at;     /* clock_now() of the last STOP event, 0: none since it was cleared */
    struct ramblock *known; /* look.c: what was told of the blocks in vmm.ram that are found by address */
    size_t known_count;
    struct qemu_save {        /* save.c: VMM_WAY_SAVE */
        int memory, out;      /* what QEMU saves into; our end of what the stream is written to. -1: none */
        struct vmm_ram *left; /* blocks that the source can read and the destination does not take from us; owned */
        size_t left_count;
        struct name_list unreachable; /* blocks that nobody can read from outside */
        char machine[QEMU_MACHINE_SIZE];
    } save;
    json_t *described; /* {"devices", "disks"} as they were described last; NULL: never */
    int64_t said_at;   /* clock_now() of the last MIGRATION event */
    char said[32];     /* what it said: QEMU's word for the migration's status; "" since it was cleared */
    uint64_t changes;  /* events that came so far: each may mean another state */
};

static inline struct qemu *qemu_of(struct vmm *vmm) {
    return (struct qemu *)vmm;
}

/* Waiting for QEMU to reach a state. An event says that something has changed, but not always that the change is over:
 * the migration is "completed" a moment before the run state is "paused". So the state is looked at at once when an
 * event has come, whichever call read it, then every half of a millisecond for a while, and then ever more seldom, up
 * to every 50 ms. */
struct qemu_pace {
    uint64_t seen;  /* events that the last look knew of */
    unsigned looks; /* since then */
    int64_t interval;
};
/* Between two looks. 0, or -1 also when it is not to go on: past the deadline the next look says so. */
int qemu_wait_change(struct qemu *q, struct qemu_pace *pace, struct error *err);

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
    __attribute__((cleanup(cleanup_shield), unused))                                                                   \
    const struct qemu_shield shield = { (q)->qmp, qmp_shield((q)->qmp, true) }

/* Whether that was done and is not undone. */
static inline bool is_done(const void *entry) {
    return entry != NULL && ledger_is_set(entry);
}

/* did.c: the entries of a ledger that is ours from now on; of one that was left. */
int qemu_begin(struct vmm *vmm, enum vmm_side side, struct error *err);
void qemu_find_done(struct qemu *q);
bool qemu_has_done(const struct qemu *q);
/* Before a descriptor is passed to QEMU as DEVICE_FD_NAME. */
void qemu_record_descriptor(struct qemu *q);

/* qemu.c */
int qemu_close_fd(struct qemu *q, struct error *err);

/* inspect.c, blockers.c, ram.c */
int qemu_inspect(struct vmm *vmm, enum vmm_side side, struct findings *found, struct error *err);
/* What writes the guest's RAM unseen. */
int qemu_find_blockers(struct qemu *q, struct findings *found, struct error *err);
/* Fills vmm->ram with the back ends that can be moved; each of the others is refused. */
int qemu_find_ram(struct qemu *q, struct findings *found, struct error *err);
/* Whether the back ends and their mappings are those that were inspected; with `others` also that nobody else maps
 * them, which looks at every process. */
int qemu_check_ram(struct qemu *q, bool others, struct error *err);
/* look.c: whether all blocks that are found by their address are what and where they were. */
int qemu_check_memory(struct qemu *q, struct error *err);
/* A new block behind the others, with nothing but its id; NULL: no memory. Takes block i away. */
struct vmm_ram *qemu_add_ram(struct qemu *q, const char *id, struct error *err);
void qemu_drop_ram(struct qemu *q, size_t i);
/* The same, and keeps it among those that are left to the device state (VMM_WAY_SAVE). */
int qemu_leave_ram(struct qemu *q, size_t i, struct error *err);
void qemu_free_left(struct qemu *q);
/* For qsort(). */
int qemu_ram_by_id(const void *a, const void *b);
int qemu_check_blocked_reasons(struct qemu *q, struct error *err);
void qemu_free_ram(struct vmm *vmm);

/* own.c: RAM that is QEMU's own. Adds to vmm->ram, behind the back ends, all that can be reached; of large blocks that
 * cannot a remark (`found` may be NULL). Counts all RAM blocks too. */
int qemu_find_own(struct qemu *q, struct findings *found, struct error *err);
/* A new reference: [{"id", "size"}]. */
json_t *qemu_describe_own(const struct vmm *vmm);
json_t *qemu_agree(struct vmm *vmm, const json_t *source, struct error *err);
int qemu_adopt(struct vmm *vmm, const json_t *ids, struct error *err);

/* jobs.c: what QEMU is doing with the guest that must end first. */
int qemu_find_jobs(struct qemu *q, struct findings *found, struct error *err);

/* changes.c */
int qemu_still_movable(struct vmm *vmm, struct error *err);
int qemu_unchanged(struct vmm *vmm, struct error *err);

/* describe.c, match.c */
json_t *qemu_describe(struct vmm *vmm, struct error *err);
int qemu_cpu_threads(struct vmm *vmm, pid_t **threads, size_t *count, struct error *err);
int qemu_match(struct vmm *vmm, json_t *source, struct findings *found, struct error *err);

/* way.c: which way the device state goes. */
int qemu_choose(struct vmm *vmm, enum vmm_wish wish, struct vmm_choice *choice, struct findings *found,
                struct error *err);

/* bars.c: what stands against VMM_WAY_SAVE, as refusals that name it. */
int qemu_find_bars(struct qemu *q, struct findings *found, struct error *err);

/* save.c: the source's half of VMM_WAY_SAVE. */
int qemu_save_stop(struct qemu *q, int fd, int64_t *stopped_at, struct error *err);
int qemu_save(struct qemu *q, struct error *err);
int qemu_save_write(struct qemu *q, int64_t timeout_ns, struct error *err);
int qemu_save_check_still(struct qemu *q, struct error *err);

/* saved_fd.c: memory that QEMU saves into, and the set of descriptors by which it gets at it. */
int qemu_saved_fd_give(struct qemu *q, int64_t *id, struct error *err);
int qemu_saved_fd_take_back(struct qemu *q, int64_t id, struct error *err);
/* The same of whatever was given and may be left, by its mark. */
int qemu_saved_fd_tidy(struct qemu *q, struct error *err);
void qemu_saved_fd_mark(struct qemu *q);
/* Closes what of it is ours. */
void qemu_saved_fd_close(struct qemu *q);

/* settings.c: capabilities and parameters of QEMU's own migration. apply() writes what it finds into the ledger, then
 * sets what differs from what godwit needs; restore() puts back what the ledger says. */
int qemu_settings_apply(struct qemu *q, struct error *err);
/* Fills the ledger as if apply() had run and had found QEMU's defaults. */
int qemu_settings_assume(struct qemu *q, struct error *err);
int qemu_settings_restore(struct qemu *q, struct error *err);
int qemu_set_downtime_limit(struct qemu *q, int64_t ms, struct error *err);

/* standstill.c */
int qemu_can_move(struct vmm *vmm, struct error *err);
/* The deadline becomes `limit` (INT64_MAX: none) behind the guest's stop, as far as that is known. */
void qemu_follow_stop(struct qemu *q, int64_t limit);
/* -1 when an event has said that the guest stopped by itself; *guest_ran becomes false then: nobody lets it run again.
 * NULL: it was stopped by us for certain, and runs again. */
int qemu_check_was_stopped(struct qemu *q, uint8_t *guest_ran, struct error *err);

/* switchover.c */
int qemu_prepare(struct vmm *vmm, struct error *err);
int qemu_stop(struct vmm *vmm, int fd, int64_t *stopped_at, struct error *err);
int qemu_filter(struct vmm *vmm, const struct vmm_carried *carried, struct vmm_filter **filter, struct error *err);
int qemu_release_device_state(struct vmm *vmm, struct error *err);
int qemu_wait_saved(struct vmm *vmm, int64_t timeout_ns, struct error *err);
int qemu_stands_still(struct vmm *vmm, struct error *err);

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
