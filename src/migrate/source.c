/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/source.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "host/process.h"
#include "migrate/injection.h"
#include "migrate/recover.h"
#include "migrate/stage.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int source_take_faults(struct source *s, const char *where, struct error *err) {
    if (fault_planned("kill-source", where)) {
        raise(SIGKILL);
    }
    if (fault_planned("fail", where)) {
        return error_set(err, ERROR_SYSTEM, "a fault was planned for stage '%s'", where);
    }
    clock_sleep(fault_value("deaf", where, 0) * CLOCK_MS);
    int64_t until = clock_now() + fault_value("hold", where, 0) * CLOCK_MS;
    while (clock_now() < until) {
        if (source_poll(s, -1, until - clock_now(), err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* A wait for the VMM that was called off does not know by whom. */
static int name_cancel(struct source *s, struct error *err) {
    struct pollfd p[2] = { { .fd = s->config->signal_fd, .events = POLLIN }, { .fd = s->cancel_fd, .events = POLLIN } };
    if (err->class == ERROR_CANCELLED && !source_handed_over(s) && poll(p, 2, 0) > 0) {
        error_clear(err);
        source_check_cancel(s, err);
    }
    return -1;
}

static int run_stages(struct source *s, struct error *err) {
    for (size_t i = 0; i < stage_count; i++) {
        int64_t begin = clock_now();
        s->stage = stages[i].name;
        status_set_state(&s->status, stages[i].state, s->stage);
        events_emit(&s->events, "stage", json_pack("{s:s}", "stage", s->stage));
        log_debug("stage %s", s->stage);
        if (source_take_faults(s, s->stage, err) < 0 || stages[i].source(s, err) < 0) {
            return name_cancel(s, err);
        }
        log_debug("stage %s took %.1f ms", s->stage, (double)(clock_now() - begin) / 1e6);
    }
    return 0;
}

static int init(struct source *s, struct error *err) {
    pthread_mutex_init(&s->settings.lock, NULL);
    status_init(&s->status);
    switchover_init(&s->switchover, s->vmm);
    s->stage = "connect";
    s->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->cancel_fd < 0) {
        return error_errno(err, ERROR_SYSTEM, "eventfd");
    }
    /* Before any thread, and before anything is changed. */
    if (recover_and_begin(s->vmm, VMM_SOURCE, err) < 0 || guardian_start(&s->guardian, s->vmm, err) < 0) {
        return -1;
    }
    if (source_plan_open(s, err) < 0) {
        return -1;
    }
    /* Known from the start, for what is said after a failure depends on it; asked for again when it counts. */
    if (s->vmm->ops->guest_running(s->vmm, &s->switchover.guest_was_running, err) < 0) {
        return -1;
    }
    source_wait_open(s);
    return events_open(&s->events, s->config->events_path, err);
}

/* Everything that this side holds, in the order that ends threads before what they use. */
static void release(struct source *s) {
    source_converge_close(s);
    limit_lift(&s->settings.limit);
    cpu_pace_end(&s->means.pace);
    control_close(s->control);
    for (unsigned i = 0; i < s->peer.channel_count; i++) {
        conn_break(&s->peer.channels[i]);
    }
    relay_stop(&s->switchover.relay);
    status_note(&s->status, &s->status.sent.transferred, source_transferred(s));
    if (s->peer.link != NULL) {
        link_break(s->peer.link);
    }
    view_stop_tracking(&s->sender.view);
    ledger_stand(s->vmm->ledger, LEDGER_SERVED, false);
    injection_put_back(s->vmm->ledger, s->vmm->pid); /* where the VMM did not stop again to have it put back */
    guardian_dismiss(&s->guardian);
}

/* After the report: memory that the report still reads. */
static void release_rest(struct source *s) {
    ram_send_stop(s->sender.send);
    devices_close(&s->sender.devices);
    ram_send_close(s->sender.send);
    source_defer_close(s);
    source_plan_close(s);
    source_wait_close(s);
    link_close(s->peer.link);
    for (unsigned i = 0; i < s->peer.channel_count; i++) {
        conn_close(&s->peer.channels[i]);
    }
    free(s->peer.channels);
    conn_close(&s->peer.device);
    view_close(&s->sender.view);
    ram_free(&s->sender.ram);
    json_decref(s->peer.reply);
    rejections_free(&s->sender.rejections);
    json_decref(s->holder.converge_config);
    events_close(&s->events);
    if (s->cancel_fd >= 0) {
        close(s->cancel_fd);
    }
}

static void tell_destination(struct source *s, const struct error *cause) {
    struct error ignored = { 0 };
    if (s->peer.link != NULL && cause->class != ERROR_LINK) {
        json_t *message =
            json_pack("{s:s, s:s, s:s}", "type", "abort", "class", error_class_name(cause->class), "desc", cause->desc);
        if (message == NULL || link_send(s->peer.link, message, &ignored) < 0) {
            log_debug("could not tell the destination");
        }
    }
}

static void note_failure(struct source *s, const struct error *cause, const char *state) {
    pthread_mutex_lock(&s->status.lock);
    s->status.error = *cause;
    s->status.error_stage = s->stage;
    s->status.state = state;
    pthread_mutex_unlock(&s->status.lock);
}

/* A process closes what it has open a moment before it has ended. */
#define END_PATIENCE (300 * CLOCK_MS)

static bool vmm_has_ended(const struct source *s) {
    int64_t deadline = clock_now() + END_PATIENCE;
    bool ended;
    while (!(ended = s->vmm->pid > 0 && process_has_ended(s->vmm->pid)) && clock_now() < deadline) {
        clock_sleep(10 * CLOCK_MS);
    }
    return ended;
}

/* Says how the guest is after a failure before hand-over, and returns the exit status for it. */
static int judge_guest(struct source *s, const struct error *cause, const struct error *undo) {
    struct error unknown = { 0 };
    bool ran = s->switchover.guest_was_running, runs = ran, undone = !error_is_set(undo);
    if (!undone || cause->class == ERROR_VMM || cause->class == ERROR_REFUSED) {
        s->vmm->ops->guest_running(s->vmm, &runs, &unknown);
    }
    if (!undone && vmm_has_ended(s)) {
        log_error("the guest's VMM has ended: %s", undo->desc);
        return 1;
    }
    if (!undone && (error_is_set(&unknown) || runs != ran)) {
        log_error("the guest could not be put back as it was: %s. It does not run at the destination: "
                  "'migrate_cancel' and then 'cont' on this VMM's monitor let it run here",
                  undo->desc);
        pid_t guardian = guardian_leave(&s->guardian);
        if (guardian > 0) {
            log_error("process %d goes on trying to put it back", (int)guardian);
        }
        return 3;
    }
    if (error_is_set(&unknown)) {
        log_warning("nothing of the guest was changed, but its VMM does not answer: %s", unknown.desc);
    } else {
        log_warning("the guest %s at the source, %s%s", runs ? "runs on" : "stays",
                    undone ? "unchanged" : "but what was set in its VMM was not put back: ", undo->desc);
    }
    return 1;
}

/* Before hand-over: the guest runs on here as if nothing had been. First of all it runs again. */
static int abort_migration(struct source *s, struct error *cause) {
    struct error undo = { 0 };
    /* a peer that has gone, or a second Ctrl-C, must not end what is asked of the VMM from here on */
    s->vmm->ops->set_watch(s->vmm, NULL);
    source_converge_close(s);
    if (switchover_undo(&s->switchover, &undo) < 0) {
        log_debug("undo: %s", undo.desc);
    }
    source_find_cause(s, cause);
    tell_destination(s, cause);
    log_error("%s: %s", s->stage, cause->desc);
    int status = judge_guest(s, cause, &undo);
    note_failure(s, cause, status == 3 ? "in-doubt" : cause->class == ERROR_CANCELLED ? "cancelled" : "failed");
    return status == 1 && cause->class == ERROR_USAGE ? 2 : status;
}

/* The destination has said that it will never run the guest: the one way back behind the hand-over. */
static int take_back(struct source *s, struct error *err) {
    return ledger_move(s->vmm->ledger, LEDGER_SOURCE, err);
}

/* After hand-over: nobody may run the guest on our word alone. */
static int leave_in_doubt(struct source *s, struct error *cause) {
    struct error undo = { 0 };
    source_converge_close(s);
    note_failure(s, cause, "in-doubt");
    log_error("%s: %s", s->stage, cause->desc);
    log_error(
        "the guest was handed over and stays paused here; it is not known whether it runs at the destination, which "
        "decides about it now. Look there first: 'godwit resolve' says how it is, and with --run lets it run there. "
        "Only when its VMM has been ended, and never ran the guest, 'godwit resolve --take-back' here takes the guest "
        "back");
    switchover_end(&s->switchover);
    if (s->vmm->ops->undo(s->vmm, false, &undo) < 0) {
        log_warning("the VMM's settings were not put back: %s", undo.desc);
    }
    return 3;
}

static int conclude(struct source *s, int rc, struct error *err) {
    int status = 0;
    struct error ignored = { 0 };
    if (rc < 0 && s->switchover.never && take_back(s, &ignored) < 0) {
        log_error("%s", ignored.desc);
    }
    if (rc < 0) {
        status = source_handed_over(s) ? leave_in_doubt(s, err) : abort_migration(s, err);
    }
    pthread_mutex_lock(&s->status.lock);
    if (s->status.times.total == STATUS_UNKNOWN) {
        s->status.times.total = clock_now() - s->status.started;
    }
    pthread_mutex_unlock(&s->status.lock);
    return status;
}

int source_run(const struct source_config *config, json_t **report) {
    struct source s = { .config = config,
                        .vmm = config->vmm,
                        .settings.params = config->params,
                        .cancel_fd = -1,
                        .peer.device = { .fd = -1 },
                        .guardian = { .channel = -1 },
                        .sender.view = VIEW_CLOSED };
    struct error err = { 0 };
    int rc = init(&s, &err);
    if (rc == 0) {
        rc = run_stages(&s, &err);
    }
    int status = conclude(&s, rc, &err);
    release(&s);
    log_progress("");
    *report = status_json(&s.status);
    json_t *accel =
        devices_json(&s.sender.devices, s.sender.send ? atomic_load(&ram_send_counters(s.sender.send)->fallbacks) : 0);
    if (accel != NULL) {
        json_object_set_new(*report, "accel", accel);
    }
    events_emit(&s.events, "end", json_deep_copy(*report));
    if (status == 1 || status == 2) { /* the guest stays; whoever waits for us to end waits for this too */
        view_restore_huge(&s.sender.view);
    }
    release_rest(&s);
    return status;
}
