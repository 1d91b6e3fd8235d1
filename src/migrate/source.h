/* SPDX-License-Identifier: Apache-2.0 */
/* The source side of one migration. */
#ifndef GODWIT_MIGRATE_SOURCE_H
#define GODWIT_MIGRATE_SOURCE_H

#include "base/clock.h"
#include "base/error.h"
#include "ledger/ledger.h"
#include "loop/loop.h"
#include "migrate/control.h"
#include "migrate/events.h"
#include "migrate/guardian.h"
#include "migrate/holder.h"
#include "migrate/means.h"
#include "migrate/peer.h"
#include "migrate/sender.h"
#include "migrate/settings.h"
#include "migrate/status.h"
#include "migrate/switchover.h"
#include "params/params.h"
#include "vmm/vmm.h"
#include "wire/address.h"

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

/* One migration: the parts that it is made of, each with a header of its own. */
struct source {
    const struct source_config *config;
    struct vmm *vmm;
    struct settings settings;
    struct means means;
    struct peer peer;
    struct sender sender;
    struct holder holder;
    struct switchover switchover;
    struct status status;
    struct events events;
    struct control *control;
    struct guardian guardian;
    int cancel_fd; /* eventfd: the control thread wants the migration to end */
    struct hall {  /* where the main thread waits (source_wait.c) */
        struct loop loop;
        struct loop_watch link, signals, cancel, vmm;
        struct loop_deadline progress; /* when the progress line is due */
    } hall;
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
/* The loop is there and knows who may end the migration; the link joins it when it is connected. */
void source_wait_open(struct source *s);
void source_wait_link(struct source *s);
/* Nobody can end it any more, and this side's VMM is not what it is about. */
void source_wait_handed_over(struct source *s);
void source_wait_close(struct source *s);
uint64_t source_transferred(struct source *s);
/* Somebody wants the migration to end: -1, unless it is too late for that. */
int source_check_cancel(struct source *s, struct error *err);
/* The wait inside the VMM's functions: what ends it, and what goes on meanwhile. Until the hand-over. */
void source_watch_vmm(struct source *s);

/* source_filter.c: what leaves the memory out of the device state that our own passes carry. NULL and 0: they carry
 * none of what the VMM would write. */
int source_open_filter(struct source *s, struct vmm_filter **filter, struct error *err);
/* Behind the device state: says what was left out. */
void source_tell_filter(struct source *s);

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
/* A look found pages [first, end) of a block written: their heat grows. */
void source_defer_heat(struct source *s, uint16_t block, uint64_t first, uint64_t end);
/* Right before a pass that is not the last one: chooses what waits. */
void source_defer_begin(struct source *s);
/* Within it, after a sample: chooses again among what has not been sent. */
void source_defer_within(struct source *s);
/* ns until heat is to be sampled when nobody else samples; INT64_MAX: not in this pass. */
int64_t source_defer_wait(const struct source *s);
/* Heat has been sampled, which found so many pages written: when it is time to do so again. */
void source_defer_sampled(struct source *s, uint64_t found);

/* source_converge.c. Finds out whether the guest can be held back; that it can't is only warned of. */
void source_converge_open(struct source *s);
/* Behind a pass and its scan: what to do now. -1 when the migration must end. */
int source_converge_decide(struct source *s, struct converge_decision *d, struct error *err);
/* Within a pass, as often as one likes: samples, and holds the guest back more or less, when it is time to. */
int source_converge_within(struct source *s, struct error *err);
/* ns until it is time to. */
int64_t source_converge_wait(struct source *s);
/* Before the VMM is asked to stop the guest: holds it back no more than lets it hear of that. */
void source_converge_before_stop(struct source *s);
/* The guest stands still: nothing holds its threads any more. */
void source_converge_release(struct source *s);
/* The same, and for good. */
void source_converge_close(struct source *s);

/* source_pass.c. Sends what is dirty, but for what is hot: starts a pass and waits for its end. A scan comes before it,
 * and a drain where one is due (source_ram.c). */
int source_pass(struct source *s, struct error *err);
/* A pass over all that is dirty, in two halves. */
void source_pass_begin_whole(struct source *s);
int source_pass_wait(struct source *s, struct error *err);

/* What the other side may take for an answer that needs no data: it is alive, else the link tells. */
#define REPLY_TIMEOUT (120 * CLOCK_S)

#endif
