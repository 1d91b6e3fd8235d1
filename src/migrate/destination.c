/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/destination.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "migrate/affinity.h"
#include "migrate/check.h"
#include "migrate/destination_parts.h"
#include "migrate/recover.h"
#include "migrate/stage.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int64_t silence_of(const struct params *params) {
    return params->value[PARAM_LINK_TIMEOUT] * CLOCK_S;
}

/* What the visitors ask (visitors.h). */
static bool has_source(void *opaque) {
    const struct destination *d = opaque;
    return d->caller.link != NULL;
}

static bool awaits_channels(void *opaque) {
    const struct destination *d = opaque;
    return d->takeover.state == TAKEOVER_RECEIVING && d->ram.receive == NULL;
}

static bool serves(void *opaque) {
    const struct destination *d = opaque;
    return d->takeover.state != TAKEOVER_WAITING;
}

static int take_source(void *opaque, const struct arrival *a, struct error *err) {
    struct destination *d = opaque;
    status_note_time(&d->status, &d->status.started, clock_now());
    return caller_take(&d->caller, a, silence_of(&d->params), err);
}

/* Channels come when the two sides have agreed, before memory does. */
static bool expects(void *opaque, const struct hello *h) {
    const struct destination *d = opaque;
    return awaits_channels(opaque) && caller_expects(&d->caller, h);
}

static int take_channel(void *opaque, const struct hello *h, int fd, struct error *err) {
    struct destination *d = opaque;
    (void)err;
    caller_take_channel(&d->caller, h, fd, silence_of(&d->params));
    return 0;
}

static json_t *check(void *opaque, json_t *args) {
    const struct destination *d = opaque;
    return check_answer(d->vmm, &d->config->params, args);
}

static const struct visitors_owner owner = {
    .awaits_channels = awaits_channels,
    .has_source = has_source,
    .serves = serves,
    .take_source = take_source,
    .expects = expects,
    .take_channel = take_channel,
    .check = check,
};

/* A wait for the VMM ends where a wait in the loop would: at the time that the source gave, and when somebody wants the
 * migration to end. */
static void bound_vmm(struct destination *d, int64_t at) {
    struct vmm_watch watch = { .fds = { link_poll_fd(d->caller.link), d->config->signal_fd, d->ends.cancel_fd },
                               .fd_count = 3 };
    d->vmm->ops->set_deadline(d->vmm, at);
    d->vmm->ops->set_watch(d->vmm, &watch);
}

static void unbind_vmm(struct destination *d) {
    d->vmm->ops->set_deadline(d->vmm, INT64_MAX);
    d->vmm->ops->set_watch(d->vmm, NULL);
}

/* It was called off while the VMM was waited for: the loop knows by whom. */
static void ask_the_loop(struct destination *d, struct error *err) {
    struct error who = { 0 };
    if (err->class == ERROR_CANCELLED && loop_turn(&d->loop, 0, &who) < 0) {
        *err = who;
    }
}

static int serve_stage(struct destination *d, const struct stage *stage, json_t *args, struct error *err) {
    if (fault_planned("kill-destination", stage->name)) {
        raise(SIGKILL);
    }
    if (fault_planned("fail-destination", stage->name)) {
        return error_set(err, ERROR_SYSTEM, "a fault was planned for stage '%s'", stage->name);
    }
    json_t *reply = json_object();
    int done = stage->destination(d, args, reply, err);
    unbind_vmm(d);
    if (done < 0) {
        ask_the_loop(d, err);
        json_decref(reply);
        return -1;
    }
    int rc = caller_reply(&d->caller, reply, err);
    if (takeover_is_done(&d->takeover)) {
        d->vmm->ops->settle(d->vmm); /* only now: the source's clock for the guest's pause has stopped */
    }
    return rc;
}

/* The stage that may come: the next one of the table, or the last one again where the table says so. */
static bool is_due(const struct destination *d, int i) {
    int next = d->stage + 1;
    while (next < (int)stage_count && stages[next].destination == NULL) {
        next++;
    }
    return i == next || (i >= 0 && i == d->stage && stages[i].repeats);
}

/* Stages come in the order of the table: whatever else the source asks for is refused. */
static int serve_request(struct destination *d, struct error *err) {
    json_t *request = d->caller.request;
    d->caller.request = NULL;
    const char *name = json_string_value(json_object_get(request, "stage"));
    int i = name != NULL ? stage_find(name) : -1;
    int rc;
    if (i < 0 || !is_due(d, i)) {
        rc = error_set(err, ERROR_PEER, "the source asks for the stage '%.32s', which is not the one that comes next",
                       name ? name : "(none)");
    } else {
        d->stage = i;
        status_set_state(&d->status, stages[i].state, stages[i].name);
        events_emit(&d->events, "stage", json_pack("{s:s}", "stage", stages[i].name));
        log_debug("stage %s", stages[i].name);
        bound_vmm(d, caller_begin(&d->caller, stages[i].name, request));
        rc = serve_stage(d, &stages[i], json_object_get(request, "args"), err);
    }
    json_decref(request);
    return rc;
}

static int serve(struct destination *d, struct error *err) {
    while (d->takeover.state != TAKEOVER_ENDED) {
        if (loop_turn(&d->loop, INT64_MAX, err) < 0) {
            return -1;
        }
        devices_tell(&d->ram.devices, &d->events);
        if (d->caller.request != NULL && serve_request(d, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Before the two sides have agreed nothing of ours was changed: whoever came was not the one we wait for. */
static bool may_wait_on(const struct destination *d, const struct error *err) {
    bool ours = err->class == ERROR_CANCELLED || err->class == ERROR_VMM || err->class == ERROR_SYSTEM ||
                err->class == ERROR_TIMEOUT;
    return d->caller.link != NULL && d->takeover.state == TAKEOVER_WAITING && (d->caller.gave_up || !ours);
}

/* Sends the one away who came, and is as before. */
static void turn_away(struct destination *d, struct error *err) {
    caller_say_end(&d->caller, "error", err);
    log_warning("refused this migration: %s; waiting for another", err->desc);
    events_emit(&d->events, "refused", json_pack("{s:s, s:s}", "peer", "the source", "why", err->desc));
    caller_forget(&d->caller);
    d->stage = -1;
    d->params = d->config->params;
    status_set_state(&d->status, "setup", "connect");
    error_clear(err);
}

static int serve_one(struct destination *d, struct error *err) {
    while (serve(d, err) < 0) {
        if (!may_wait_on(d, err)) {
            return -1;
        }
        turn_away(d, err);
    }
    return 0;
}

static int cancel(void *opaque, struct error *err) {
    (void)opaque;
    return error_set(err, ERROR_CANCELLED, "cancelled at the destination");
}

static int nobody_came(void *opaque, struct error *err) {
    const struct destination *d = opaque;
    return error_set(err, ERROR_TIMEOUT, "no source whose guest fits has come within %.0f s",
                     (double)d->config->wait / 1e9);
}

static int drive_vmm(void *opaque, struct error *err) {
    struct destination *d = opaque;
    return d->vmm->ops->drive(d->vmm, err);
}

/* What can end the migration on this side. */
static int watch_ends(struct destination *d, struct error *err) {
    struct destination_ends *e = &d->ends;
    e->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->cancel_fd < 0) {
        return error_errno(err, ERROR_SYSTEM, "eventfd");
    }
    e->signal = (struct loop_watch){ .fd = d->config->signal_fd, .ready = cancel, .opaque = d };
    e->cancel = (struct loop_watch){ .fd = e->cancel_fd, .ready = cancel, .opaque = d };
    e->vmm = (struct loop_watch){ .fd = d->vmm->ops->poll_fd(d->vmm), .ready = drive_vmm, .opaque = d };
    loop_watch(&d->loop, &e->signal);
    loop_watch(&d->loop, &e->cancel);
    loop_watch(&d->loop, &e->vmm);
    e->nobody = (struct loop_deadline){ .due = nobody_came, .opaque = d };
    if (d->config->wait > 0) {
        loop_arm(&d->loop, &e->nobody, clock_now() + d->config->wait);
    }
    return 0;
}

/* For people and for events: they wait for this before they start the source. */
static void tell_listening(struct destination *d) {
    const struct address *a = &d->config->listen;
    char at[sizeof(a->host) + sizeof(a->port) + 16];
    bool colons = strchr(a->host, ':') != NULL;
    if (a->kind == ADDRESS_UNIX) {
        snprintf(at, sizeof(at), "unix:%s", a->host);
    } else {
        snprintf(at, sizeof(at), "tcp:%s%s%s:%s", colons ? "[" : "", a->host, colons ? "]" : "", a->port);
    }
    log_notice("listening at %s", at);
    events_emit(&d->events, "listening", json_pack("{s:s}", "address", at));
}

static int init(struct destination *d, struct error *err) {
    /* The guardian before any thread, and before anything is changed. */
    if (recover_and_begin(d->vmm, VMM_DESTINATION, err) < 0 || guardian_start(&d->guardian, d->vmm, err) < 0) {
        return -1;
    }
    if (events_open(&d->events, d->config->events_path, err) < 0 || vmm_inspect(d->vmm, VMM_DESTINATION, err) < 0 ||
        affinity_apply(d->params.cpu_affinity, err) < 0 || watch_ends(d, err) < 0 ||
        visitors_listen(&d->visitors, &d->config->listen, err) < 0) {
        return -1;
    }
    if (d->config->listen.kind == ADDRESS_UNIX) {
        guardian_note_file(&d->guardian, d->config->listen.host);
    }
    if (d->config->control_path != NULL) {
        d->control = control_open(d->config->control_path, &destination_control_ops, d, err);
        if (d->control == NULL) {
            return -1;
        }
        guardian_note_file(&d->guardian, d->config->control_path);
    }
    tell_listening(d);
    return 0;
}

/* Everything that this side holds, in the order that ends threads before what they use. */
static void release(struct destination *d) {
    control_close(d->control);
    bool listened = d->visitors.listener.fd >= 0; /* else the socket file may be another receiver's */
    visitors_close(&d->visitors);
    if (listened && d->config->listen.kind == ADDRESS_UNIX) {
        unlink(d->config->listen.host);
    }
    caller_break_channels(&d->caller);
    destination_ram_close(&d->ram);
    relay_stop(&d->relay);
    caller_forget(&d->caller);
    loop_close(&d->loop);
    if (d->ends.cancel_fd >= 0) {
        close(d->ends.cancel_fd);
    }
    guardian_dismiss(&d->guardian);
}

static void note_totals(struct destination *d) {
    pthread_mutex_lock(&d->status.lock);
    d->status.times.total = clock_now() - d->status.started;
    d->status.sent.transferred = caller_received(&d->caller) + atomic_load(&d->relay.bytes);
    if (takeover_is_done(&d->takeover)) {
        d->status.state = "completed";
    }
    pthread_mutex_unlock(&d->status.lock);
}

static json_t *report_of(struct destination *d) {
    json_t *report = status_json(&d->status);
    json_t *accel = devices_json(&d->ram.devices, d->ram.receive ? ram_receive_fallbacks(d->ram.receive) : 0);
    if (accel != NULL) {
        json_object_set_new(report, "accel", accel);
    }
    return report;
}

int destination_serve(const struct destination_config *config, json_t **report) {
    struct destination d = { .config = config,
                             .vmm = config->vmm,
                             .params = config->params,
                             .guardian.channel = -1,
                             .ends.cancel_fd = -1,
                             .stage = -1 };
    struct error err = { 0 };
    int status = 0;
    status_init(&d.status);
    loop_init(&d.loop);
    visitors_init(&d.visitors, &d.loop, &owner, &d, &d.events, silence_of(&d.params));
    d.takeover.ledger = d.vmm->ledger;
    caller_init(&d.caller, &d.loop, &d.takeover);
    destination_ram_init(&d.ram, &d.loop, &d.caller, d.params.value[PARAM_CPU_BUDGET]);
    if (init(&d, &err) < 0 || serve_one(&d, &err) < 0) {
        status = destination_conclude(&d, &err);
    }
    note_totals(&d);
    *report = report_of(&d);
    events_emit(&d.events, "end", json_deep_copy(*report));
    release(&d);
    events_close(&d.events);
    return status;
}
