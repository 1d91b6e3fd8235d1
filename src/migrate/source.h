/* SPDX-License-Identifier: Apache-2.0 */
/* The source side of one migration. */
#ifndef GODWIT_MIGRATE_SOURCE_H
#define GODWIT_MIGRATE_SOURCE_H

#include "base/error.h"
#include "base/limit.h"
#include "hold/throttle.h"
#include "host/load.h"
#include "host/pace.h"
#include "host/waiting.h"
#include "ledger/ledger.h"
#include "migrate/control.h"
#include "migrate/deferral.h"
#include "migrate/devices.h"
#include "migrate/events.h"
#include "migrate/guardian.h"
#include "migrate/rejections.h"
#include "migrate/status.h"
#include "migrate/switchover.h"
#include "params/params.h"
#include "policy/converge.h"
#include "policy/forecast.h"
#include "policy/plan.h"
#include "ram/block.h"
#include "ram/choice.h"
#include "ram/digest.h"
#include "ram/send.h"
#include "view/view.h"
#include "vmm/vmm.h"
#include "wire/address.h"
#include "wire/hello.h"
#include "wire/link.h"

#include <stdbool.h>
#include <stdint.h>

struct source_config {
    struct vmm *vmm; /* opened, not yet inspected; not owned */
    struct address to;
    int64_t wait; /* ns for which a receiver that does not listen yet is waited for */
    struct params params;
    const char *events_path, *control_path; /* NULL: none */
    bool progress;                          /* a progress line on stderr */
    int signal_fd;                          /* readable: somebody wants the migration to end */
};

struct source {
    const struct source_config *config;
    struct vmm *vmm;

    pthread_mutex_t params_lock; /* owns params: the control thread changes the live ones */
    struct params params;
    struct params ceiling;                   /* limits that the destination's user has set */
    struct limit limit;                      /* follows max-bandwidth */
    struct compression_settings compression; /* follows compression, lz4-acceleration */

    /* What the host can spare (source_plan.c). */
    struct host_meter *meter;
    struct host_waiting waiting;
    struct cpu_pace pace; /* follows cpu-budget */
    struct plan plan;
    int64_t planned_at;

    struct status status;
    struct events events;
    struct control *control;
    int cancel_fd; /* eventfd: the control thread wants the migration to end */
    struct guardian guardian;

    /* The wire. */
    uint8_t session[SESSION_SIZE];
    struct link *link;
    struct conn *channels;
    unsigned channel_count; /* connected */
    struct conn device;
    json_t *reply; /* from the destination, not yet taken */

    /* RAM. */
    struct ram ram;
    struct view view;
    struct digest_key key;
    struct ram_send *send;
    struct devices devices;
    struct rejections rejections; /* what the destination could not place */
    int64_t scanned_at;           /* clock_now() of the last scan that was no sample */
    int64_t rated_at;             /* the same of the scan that the dirty rate was measured by, a sample maybe */
    uint64_t found_pages;         /* by looks since the dirty rate was measured last */
    uint64_t dirty_pages;         /* what it was measured by: so many were found written, ... */
    int64_t dirty_interval;       /* ... in so many ns */
    struct deferral deferral;
    struct pass_start {   /* of the running or last pass */
        uint64_t pages;   /* dirty, those that wait included */
        uint64_t waited;  /* of them, valid at its end: were not sent, for their segments are hot */
        uint64_t dirtied; /* since its beginning, as of the last scan */
        uint64_t sent_pages, zeros, unchanged; /* by all passes before */
        int64_t at;
        uint64_t transferred, queued; /* bytes that the sockets had taken, and that the peer had not acknowledged */
    } pass;

    /* Convergence (source_converge.c). */
    struct forecast forecast;
    struct converge_state converge;
    json_t *converge_config;   /* as events were told last; NULL: not yet */
    struct throttle *throttle; /* NULL: the guest can't be held back */
    unsigned throttled;        /* percent in force */
    int64_t attended_at;       /* clock_now() of the last look after it */
    int64_t decided_at;        /* clock_now() of the last decision within a pass */
    _Atomic bool force;        /* somebody wants the switchover now */
    bool force_offered;

    struct switchover switchover;
    int64_t progress_at; /* when the progress line is due */
    const char *stage;
};

/* From here on the guest never runs here again, unless the ledger says so. */
static inline bool source_handed_over(const struct source *s) {
    return switchover_handed_over(&s->switchover);
}

/* Runs a whole migration. Returns the exit status of the contract (0, 1, 3) and the report of --json in *report. */
int source_run(const struct source_config *config, json_t **report);

/* source.c. Takes the faults that are planned for a place: the beginning of a stage, or "load", when the device state
 * is saved and the destination loads it. */
int source_take_faults(struct source *s, const char *where, struct error *err);

/* Stages (stage.c). */
int source_connect(struct source *s, struct error *err);
int source_inspect(struct source *s, struct error *err);
int source_attach(struct source *s, struct error *err);
int source_ram_full(struct source *s, struct error *err);
int source_iterate(struct source *s, struct error *err);
int source_stop(struct source *s, struct error *err);
int source_final(struct source *s, struct error *err);
int source_device(struct source *s, struct error *err);
int source_hand_over(struct source *s, struct error *err);
int source_run_destination(struct source *s, struct error *err);
int source_detach(struct source *s, struct error *err);

/* source_control.c. One live parameter, for callers without params_lock. */
int64_t source_param(struct source *s, enum param param);
/* Makes the running parts follow the live parameters; the caller holds params_lock. */
void source_apply_params(struct source *s);
extern const struct control_ops source_control_ops;

/* source_plan.c. Opens what the host's load is read from and ties the engine to its CPUs; before any thread of it. */
int source_plan_open(struct source *s, struct error *err);
/* The first plan: the guest's RAM and the channels are known. */
void source_plan_begin(struct source *s);
/* Makes it again when it is time to, and applies what changed. */
void source_plan_keep(struct source *s);
/* Takes what the destination says of its load. */
void source_take_load(struct source *s, json_t *message);
/* Threads that may ever compress. */
unsigned source_plan_most_threads(struct source *s);
void source_plan_close(struct source *s);

/* source_wait.c: the one place where the source waits. Polls once, at most `timeout_ns`, for `fd` (or -1), messages of
 * the destination, the VMM, signals and the control socket. -1 when the migration must end. */
int source_poll(struct source *s, int fd, int64_t timeout_ns, struct error *err);
/* Asks the destination for its half of the running stage; takes the reference to args (NULL: none). */
int source_request(struct source *s, json_t *args, struct error *err);
/* Waits for the reply to it: a new reference in *reply (may be NULL when nobody wants it). */
int source_await(struct source *s, int64_t timeout_ns, json_t **reply, struct error *err);
/* A broken link or channel may be a symptom: puts what the destination said before into `err`, when it is there or
 * comes soon. For a migration that has failed already. */
void source_find_cause(struct source *s, struct error *err);
uint64_t source_transferred(struct source *s);
/* Somebody wants the migration to end: -1, unless it is too late for that. */
int source_check_cancel(struct source *s, struct error *err);
/* The wait inside the VMM's functions: what ends it, and what goes on meanwhile. Until the hand-over. */
void source_watch_vmm(struct source *s);

/* source_verify.c: behind the last scan nobody writes the guest's RAM. -1 when somebody did. */
int source_verify(struct source *s, struct error *err);

/* source_scan.c: between passes, marks what the guest wrote since the last scan as dirty, and protects it again. */
int source_scan(struct source *s, struct error *err);
/* After the first scan: memory that was never written is not dirty. */
int source_skip_holes(struct source *s, struct error *err);
/* Behind a scan, for who drains block I/O or has stopped the guest before the next copy: what was found written since
 * the last drain, and copied since, is dirty again. */
void source_settle(struct source *s);
/* Within a pass: the same, but what it finds is for the next pass. */
int source_sample(struct source *s, struct error *err);
/* Measures the dirty rate by what was found since the last time. */
void source_rate(struct source *s);

/* source_defer.c: hot segments wait. Opens when RAM and the sender are. */
int source_defer_open(struct source *s, struct error *err);
void source_defer_close(struct source *s);
/* A look begins, so many ns after the one before. */
void source_defer_look(struct source *s, int64_t ns);
/* A look found pages [first, end) of a block written. */
void source_defer_note(struct source *s, uint16_t block, uint64_t first, uint64_t end);
/* Right before a pass that is not the last one: chooses what waits. */
void source_defer_begin(struct source *s);
/* Within it, after a sample: chooses again among what has not been sent. */
void source_defer_within(struct source *s);
/* ns until heat is to be sampled when nobody else samples; INT64_MAX: not in this pass. */
int64_t source_defer_wait(const struct source *s);
int source_defer_sample(struct source *s, struct error *err);

/* source_converge.c. Finds out whether the guest can be held back; that it can't is only warned of. */
void source_converge_open(struct source *s);
/* Behind a pass and its scan: what to do now. -1 when the migration must end. */
int source_converge_decide(struct source *s, struct converge_decision *d, struct error *err);
/* Within a pass, as often as one likes: samples, and holds the guest back more or less, when it is time to. */
int source_converge_within(struct source *s, struct error *err);
/* ns until it is time to. */
int64_t source_converge_wait(struct source *s);
/* Before the VMM is asked to stop the guest. */
void source_converge_ease(struct source *s);
/* Threads that are held by a quota wait for a CPU, by the kernel's count. */
bool source_converge_by_quota(const struct source *s);
/* While it is waited for something: by ptrace a guest that nobody looks after is let run after a while, by a quota that
 * is done here. The next decision holds it again. */
void source_converge_lapse(struct source *s);
/* The guest stands still: nothing holds its threads any more. */
void source_converge_release(struct source *s);
/* The same, and for good. */
void source_converge_close(struct source *s);

/* source_pass.c: bytes on their way. */
uint64_t source_queued(const struct source *s);
/* Sends what is dirty, but for what is hot: starts a pass and waits for its end. A scan comes before it, and a drain
 * where one is due (source_ram.c). */
int source_pass(struct source *s, struct error *err);
/* A pass over all that is dirty, in two halves. */
void source_pass_begin_whole(struct source *s);
int source_pass_wait(struct source *s, struct error *err);

/* What the other side may take for an answer that needs no data: it is alive, else the link tells. */
#define REPLY_TIMEOUT (120 * CLOCK_S)

#endif
