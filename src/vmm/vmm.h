/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine needs of a VMM. The one implementation is qemu/; a second VMM is a new folder beside it.
 *
 * Every function runs on the thread that drives the migration. Times out by itself; a VMM that goes away is an error,
 * never a hang. Texts of the VMM's own errors are kept verbatim inside ours. Two things end a wait inside any of them
 * earlier: the deadline, and what the owner watches.
 */
#ifndef GODWIT_VMM_VMM_H
#define GODWIT_VMM_VMM_H

#include "base/error.h"
#include "vmm/filter.h"
#include "vmm/findings.h"
#include "vmm/watch.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum vmm_side { VMM_SOURCE, VMM_DESTINATION };

enum vmm_ram_kind {
    VMM_RAM_FILE,   /* a file that the VMM has mapped shared: read and written as a file */
    VMM_RAM_MEMORY, /* memory that is private to the VMM's process, whatever it was mapped from: by address */
};

/* One block of guest RAM. */
struct vmm_ram {
    char id[128]; /* the VMM's name of it; the same at both ends */
    enum vmm_ram_kind kind;
    bool guest;   /* RAM of the guest, which goes in our passes or not at all; else the VMM's own: video RAM,
                     option ROMs, flash, tables */
    bool skipped; /* the VMM itself can leave it out of its migration stream */
    bool hugetlb;
    uint64_t size;      /* bytes */
    uint64_t page_size; /* 4096 or the hugetlb size */
    int fd; /* the file, or /proc/PID/mem; for reading (source) or both (destination). This and the next are owned by
               the guest object */
    int origin;   /* VMM_RAM_MEMORY: the file that is mapped there, which has the pages that nobody has written yet; for
                     reading; -1: none, such pages are zero */
    dev_t device; /* of the file, or of the origin */
    ino_t inode;
    struct vmm_ram_range {   /* where the process has it mapped; VMM_RAM_MEMORY: one, of `size` bytes from offset 0 */
        uint64_t start, end; /* addresses in the process */
        uint64_t offset;     /* bytes into the file at start */
    } * ranges;
    size_t range_count;
};

enum vmm_status {
    VMM_IDLE,           /* no migration of its own */
    VMM_SETTING_UP,     /* begun, the guest still runs */
    VMM_PRE_SWITCHOVER, /* the guest is stopped and its device state is held back */
    VMM_DEVICE,         /* device state is moving */
    VMM_COMPLETED,
    VMM_FAILED,
    VMM_CANCELLED,
};

/* How the device state leaves the source's VMM, and what of RAM is in it. Both sides have to know (docs/protocol.md).
 */
enum vmm_way {
    VMM_WAY_SKIP,   /* the VMM's own migration, which leaves the guest's RAM out by itself */
    VMM_WAY_SAVE,   /* the devices alone are saved, and of RAM only what the engine does not carry is put to them */
    VMM_WAY_FILTER, /* the VMM's own migration, which sends RAM of the guest; the filter takes it out again */
    VMM_WAY_COUNT,
};
extern const char *const vmm_way_names[VMM_WAY_COUNT];

enum vmm_wish { VMM_WISH_AUTO, VMM_WISH_SAVE, VMM_WISH_MIGRATE };

struct vmm_choice {
    enum vmm_way way;
    char why[600];
};

struct vmm;
struct ledger;

struct vmm_ops {
    const char *name;
    void (*close)(struct vmm *vmm);

    /* Until further notice no wait inside any function goes beyond `at` (clock_now()): it fails with ERROR_TIMEOUT and
     * a text that names what was waited for and the stop limit. INT64_MAX: only the functions' own timeouts hold. Holds
     * for undo() too: give it a deadline of its own before. */
    void (*set_deadline)(struct vmm *vmm, int64_t at);
    /* Until further notice this ends waits inside the functions, with ERROR_CANCELLED or what the tick says; NULL:
     * nothing does. Copied. run(), settle(), undo(), discard() and quit() only tick: they go on. */
    void (*set_watch)(struct vmm *vmm, const struct vmm_watch *watch);

    /* Begins the ledger: before anything is changed, and after what a dead engine left in it has been undone. */
    int (*begin)(struct vmm *vmm, enum vmm_side side, struct error *err);

    /* Finds everything that godwit must refuse, and fills vmm->ram. Changes nothing in the VMM. -1: it could not be
     * inspected. 0 says nothing about what was found, and vmm->ram is whole only when nothing was refused. */
    int (*inspect)(struct vmm *vmm, enum vmm_side side, struct findings *found, struct error *err);

    /* What both sides compare: {"vmm", "version", "machine", "cpus", "devices": [...], "ram": [...]}. A new reference.
     */
    json_t *(*describe)(struct vmm *vmm, struct error *err);

    /* Compares the destination's own description with the source's: all that differs, by name. Destination side, after
     * inspect(). -1: they could not be compared, as for a description that makes no sense. */
    int (*match)(struct vmm *vmm, json_t *source, struct findings *found, struct error *err);

    /* RAM of the VMM's own comes with the device state, and then while the guest stands still: unless both sides have
     * it, and it goes as the guest's RAM does. inspect() adds those blocks that can be reached to vmm->ram, behind the
     * guest's. Now the sides agree on which of them; all others leave vmm->ram and stay with the device state.
     * agree(): destination, once the source fits: looks at its own anew and keeps those that the source's description
     * has in the same size. Returns their ids for the source, a new reference. adopt(): source: keeps those that the
     * destination has named (NULL: none). */
    json_t *(*agree)(struct vmm *vmm, const json_t *source, struct error *err);
    int (*adopt)(struct vmm *vmm, const json_t *ids, struct error *err);

    /* Source, after inspect(): in which way the device state can go, and why that one. What bars a way that is wished
     * for is a refusal. Changes nothing: the engine sets vmm->way once the destination has agreed, before adopt(). */
    int (*choose)(struct vmm *vmm, enum vmm_wish wish, struct vmm_choice *choice, struct findings *found,
                  struct error *err);

    /* Source, between the last pass and the stop, while the guest runs: whether anything has come that inspect() would
     * refuse, or has changed of what describe() told. Takes its time: it looks at every process of the host. */
    int (*still_movable)(struct vmm *vmm, struct error *err);
    /* Source, in the pause: whether memory, devices and disks are still what was inspected and described. A few
     * milliseconds. */
    int (*unchanged)(struct vmm *vmm, struct error *err);

    /* The threads that run the guest's vCPUs: *threads is the caller's to free. */
    int (*cpu_threads)(struct vmm *vmm, pid_t **threads, size_t *count, struct error *err);

    int (*guest_running)(struct vmm *vmm, bool *running, struct error *err);
    /* Source: whether the guest is in a state that it would have at the destination too: it runs, or somebody has
     * paused it. One that has stopped by itself (it was shut down, it panicked, a disk failed) stays what it is here:
     * -1 with ERROR_REFUSED; so with one that somebody has paused, where the way takes only guests that run. stop()
     * looks at it again. */
    int (*can_move)(struct vmm *vmm, struct error *err);
    /* Waits until all block I/O that was in flight at the call is finished. */
    int (*drain)(struct vmm *vmm, struct error *err);

    /* Source: notes what must be undone, then sets what the hand-over needs. */
    int (*prepare)(struct vmm *vmm, struct error *err);
    /* Source: stops the guest with its device state held back; `fd` receives the state (the VMM's end of a socket; the
     * VMM gets a copy, the caller keeps and closes its own). Returns when the guest has stopped; *stopped_at is
     * clock_now() at the stop as nearly as it can be told. What the deadline leaves at the call is counted from the
     * stop, as long as the VMM answers. VMM_WAY_SAVE: nothing is written to `fd` before wait_saved(). */
    int (*stop)(struct vmm *vmm, int fd, int64_t *stopped_at, struct error *err);
    /* Source: what leaves memory that the engine carries itself out of the device state, on its way from this VMM.
     * `carried` is copied; *filter is the caller's to close. NULL and 0: nothing can be left out of this guest's. */
    int (*filter)(struct vmm *vmm, const struct vmm_carried *carried, struct vmm_filter **filter, struct error *err);
    /* Source: lets the device state through, or has it saved (VMM_WAY_SAVE). wait_saved() waits for its end. */
    int (*release_device_state)(struct vmm *vmm, struct error *err);
    int (*wait_saved)(struct vmm *vmm, int64_t timeout_ns, struct error *err);
    /* Source, right before the hand-over: -1 when somebody has let the guest run since stop(), as far as the VMM has
     * said by now. */
    int (*stands_still)(struct vmm *vmm, struct error *err);
    /* Source: brings the guest back to what it was before prepare(), whatever happened since; safe to call at any time
     * and more than once. Runs the guest only when it ran before and `resume` is set. */
    int (*undo)(struct vmm *vmm, bool resume, struct error *err);

    /* Destination: makes the VMM read the device state from `fd`. Returns when it has begun to. */
    int (*load_begin)(struct vmm *vmm, int fd, struct error *err);
    int (*wait_loaded)(struct vmm *vmm, int64_t timeout_ns, struct error *err);
    /* Destination: runs the guest. Nothing else: the guest stands still until it returns. */
    int (*run)(struct vmm *vmm, struct error *err);
    /* Destination, after that, or when the guest is to stay paused: announces the guest's addresses if it runs, and
     * puts the VMM's migration settings back. What fails is only warned of. */
    void (*settle)(struct vmm *vmm);
    /* Destination: a migration that did not happen; leaves a VMM that was not yet loading as it was. 1: it has begun to
     * load and cannot be used again. */
    int (*discard)(struct vmm *vmm, struct error *err);

    /* Ends the VMM process in an orderly way (source-quit). */
    int (*quit)(struct vmm *vmm, struct error *err);
    /* Descriptor to poll: readable when the VMM said something; then call drive(). */
    int (*poll_fd)(struct vmm *vmm);
    int (*drive)(struct vmm *vmm, struct error *err);
};

struct vmm {
    const struct vmm_ops *ops;
    pid_t pid;             /* the VMM's process; 0 for unknown */
    struct ledger *ledger; /* of this guest; owned */
    enum vmm_way way;      /* as the two sides have agreed */
    struct vmm_ram *ram;
    size_t ram_count;
};

/* Whether our passes carry a block of that name, which the VMM would send too. `opaque`: the struct vmm. */
bool vmm_carries(void *opaque, const char *id);

/* The way of that name; -1: there is none. */
int vmm_way_find(const char *name);

/* For who wants to go on: the op, and -1 also for what it refuses; what it remarks is a warning. */
int vmm_choose(struct vmm *vmm, enum vmm_wish wish, struct vmm_choice *choice, struct error *err);
int vmm_inspect(struct vmm *vmm, enum vmm_side side, struct error *err);
int vmm_match(struct vmm *vmm, json_t *source, struct error *err);

#endif
