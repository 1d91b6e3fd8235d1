/* SPDX-License-Identifier: Apache-2.0 */
/* What an end means: for the source, for people, for the exit status. */
#include "base/clock.h"
#include "base/log.h"
#include "host/process.h"
#include "ledger/ledger.h"
#include "migrate/destination_parts.h"
#include "migrate/stage.h"

/* When the source gives up, its channels break and its VMM's stream ends, so that ours fails to load: symptoms, and
 * they may come before the source's word, for it resumes its guest first. When the link breaks itself, it breaks them
 * too. */
static void find_cause(struct destination *d, struct error *err) {
    enum takeover_state state = d->takeover.state;
    bool loading = state == TAKEOVER_LOADING;
    if (err->class == ERROR_LINK && destination_ram_failure(&d->ram, err)) {
        return;
    }
    if ((state == TAKEOVER_RECEIVING || loading) &&
        (err->class == ERROR_LINK || (err->class == ERROR_VMM && loading))) {
        caller_find_cause(&d->caller, err);
    }
}

/* A process closes what it has open a moment before it has ended. */
#define END_PATIENCE (300 * CLOCK_MS)

static bool vmm_has_ended(const struct destination *d) {
    int64_t deadline = clock_now() + END_PATIENCE;
    bool ended;
    while (!(ended = d->vmm->pid > 0 && process_has_ended(d->vmm->pid)) && clock_now() < deadline) {
        clock_sleep(10 * CLOCK_MS);
    }
    return ended;
}

#define LOOK_TIME (150 * CLOCK_MS)
#define DISCARD_TIME CLOCK_S

enum certainty { RUNS, RUNS_NOT, UNKNOWN };

/* How the guest is here, where the source may have handed it over. The VMM executes commands in their order: when it
 * answers that the guest does not run, a `cont` that was sent before has failed and none is to come. */
static enum certainty look_at_guest(struct destination *d) {
    struct error unknown = { 0 };
    bool running = false;
    d->vmm->ops->set_deadline(d->vmm, clock_now() + LOOK_TIME);
    if (d->vmm->ops->guest_running(d->vmm, &running, &unknown) == 0) {
        return running ? RUNS : RUNS_NOT;
    }
    /* a VMM that was never asked to run it does not, whether it answers or not */
    return d->takeover.state == TAKEOVER_LOADED || vmm_has_ended(d) ? RUNS_NOT : UNKNOWN;
}

/* It never runs here: written down before it is said, and before anybody believes it. */
static int keep_at_source(struct destination *d) {
    struct error err = { 0 };
    if (ledger_owner(d->vmm->ledger) != LEDGER_SOURCE && ledger_move(d->vmm->ledger, LEDGER_SOURCE, &err) < 0) {
        log_warning("%s", err.desc);
        return -1;
    }
    return 0;
}

/* The source may have handed the guest over. A link that broke, or a source that is silent, leaves that open; anything
 * else is our own failure, and then the source may take its guest back as soon as it is certain that it does not run
 * here and never will. It may run here after all: `cont` was slow. */
static enum takeover_state judge_open(struct destination *d, const struct error *err) {
    bool asked = d->takeover.state == TAKEOVER_ASKED, has_run = ledger_has_run(d->vmm->ledger);
    if (!has_run && (err->class == ERROR_LINK || (err->class == ERROR_TIMEOUT && !asked))) {
        return TAKEOVER_IN_DOUBT;
    }
    enum certainty guest = look_at_guest(d);
    if (guest == RUNS && asked) {
        takeover_ran(&d->takeover);
    }
    if (ledger_has_run(d->vmm->ledger)) {
        return TAKEOVER_DONE; /* whatever has become of it since: its disks have changed, the source's copy is old */
    }
    return guest == RUNS_NOT && keep_at_source(d) == 0 ? TAKEOVER_NEVER : TAKEOVER_IN_DOUBT;
}

static void advise_doubt(bool asked) {
    if (asked) {
        log_error(
            "the source has handed the guest over and does not run it, and it is not known whether it runs here. "
            "'godwit resolve' here says how it is; if it is paused, --run lets it run; if it does not answer, end "
            "it: only then the guest may be taken back at the source");
    } else {
        log_error(
            "it is not known whether the source has handed the guest over: it stays paused here. Look at the "
            "source: if the guest runs there, end this VMM; if 'godwit resolve' there says that it was handed "
            "over, 'godwit resolve --run' here lets it run. It may be taken back at the source only when this VMM "
            "has been ended");
    }
}

/* What the operator should do with the destination's VMM now. `spoiled`: it has begun to load. */
static void advise(const struct destination *d, bool spoiled) {
    if (d->takeover.state == TAKEOVER_NEVER) {
        log_error("the guest does not run here and never will; end this VMM. The source was told so and takes its "
                  "guest back; if it says that it was handed over, 'godwit resolve --take-back' there does, when this "
                  "VMM has been ended");
    } else if (spoiled) {
        log_warning("the guest was not taken over; end this VMM and start it anew before the next try");
    } else if (d->caller.link != NULL) {
        log_warning("the guest was not taken over; this VMM was not touched but for its memory and can wait for "
                    "another try");
    }
}

static void discard(struct destination *d, bool *spoiled) {
    struct error ignored = { 0 };
    d->vmm->ops->set_deadline(d->vmm, clock_now() + DISCARD_TIME);
    int discarded = d->vmm->ops->discard(d->vmm, &ignored);
    if (discarded < 0) {
        log_debug("discard: %s", ignored.desc);
    }
    *spoiled = discarded != 0;
}

/* What cannot be written down is not so: then it is in doubt. */
static void move(struct destination *d, enum takeover_state to) {
    struct error err = { 0 };
    if (takeover_move(&d->takeover, to, &err) < 0) {
        log_warning("%s", err.desc);
        error_clear(&err);
        takeover_move(&d->takeover, TAKEOVER_IN_DOUBT, &err);
    }
}

/* It took too long and it runs, or has run. Whether the source still listens or not: it has handed the guest over. */
static int say_it_runs(struct destination *d, struct error *err) {
    struct error ignored = { 0 };
    bool running = false;
    d->vmm->ops->set_deadline(d->vmm, clock_now() + LOOK_TIME);
    if (d->vmm->ops->guest_running(d->vmm, &running, &ignored) == 0 && !running) {
        log_warning("%s; but the guest has run here, and has stopped by itself since: look at this VMM", err->desc);
    } else {
        log_warning("%s; but the guest %s here", err->desc, running ? "runs" : "has run");
    }
    if (caller_reply(&d->caller, json_pack("{s:b}", "running", true), &ignored) < 0) {
        log_debug("could not tell the source");
    }
    d->vmm->ops->set_deadline(d->vmm, INT64_MAX);
    d->vmm->ops->settle(d->vmm);
    error_clear(err);
    return 0;
}

static int end(struct destination *d, struct error *err) {
    bool asked = d->takeover.state == TAKEOVER_ASKED, spoiled;
    if (takeover_is_open(&d->takeover)) {
        move(d, judge_open(d, err));
        if (takeover_is_done(&d->takeover)) {
            return say_it_runs(d, err);
        }
        caller_say_end(&d->caller, d->takeover.state == TAKEOVER_NEVER ? "never" : "error", err);
    } else if (d->takeover.state == TAKEOVER_GIVEN_UP) {
        keep_at_source(d);
    } else {
        move(d, TAKEOVER_FAILED);
        caller_say_end(&d->caller, "error", err);
    }
    log_error("%s", err->desc);
    if (d->takeover.state == TAKEOVER_IN_DOUBT) {
        advise_doubt(asked); /* at once: what follows may take a while with a VMM that hangs */
        discard(d, &spoiled);
        return 3;
    }
    discard(d, &spoiled);
    advise(d, spoiled);
    return 1;
}

int destination_conclude(struct destination *d, struct error *err) {
    if (takeover_is_done(&d->takeover)) {
        /* The guest runs here; only the goodbye is missing. */
        log_warning("the source left without a goodbye: %s", err->desc);
        error_clear(err);
        return 0;
    }
    ledger_word_by(d->vmm->ledger, 0); /* it comes */
    find_cause(d, err);
    int status = end(d, err);
    if (status == 0) {
        return 0;
    }
    pthread_mutex_lock(&d->status.lock);
    d->status.error = *err;
    d->status.error_stage = d->stage >= 0 ? stages[d->stage].name : "connect";
    d->status.state = status == 3 ? "in-doubt" : err->class == ERROR_CANCELLED ? "cancelled" : "failed";
    pthread_mutex_unlock(&d->status.lock);
    return status;
}
