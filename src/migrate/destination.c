/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/destination.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "migrate/affinity.h"
#include "migrate/stage.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int handle_message(struct destination *d, json_t *message, struct error *err) {
    const char *type = json_string_value(json_object_get(message, "type"));
    if (type != NULL && strcmp(type, "request") == 0 && d->request == NULL) {
        d->request = json_incref(message);
        return 0;
    }
    if (type != NULL && strcmp(type, "bye") == 0 && d->ran) {
        d->finished = true;
        return 0;
    }
    if (type != NULL && strcmp(type, "abort") == 0) {
        const char *desc = json_string_value(json_object_get(message, "desc"));
        const char *class = json_string_value(json_object_get(message, "class"));
        d->given_up = true;
        return error_set(err, error_class_from_name(class ? class : ""), "the source gave up: %s",
                         desc ? desc : "(no reason)");
    }
    return error_set(err, ERROR_PEER, "the source said something that it must not say now");
}

static int take_messages(struct destination *d, struct error *err) {
    json_t *message;
    int rc;
    while (!d->finished && (rc = link_receive(d->link, &message, err)) != 0) {
        if (rc < 0) {
            return -1;
        }
        rc = handle_message(d, message, err);
        json_decref(message);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

#define OWN_POLL_FDS 6

int destination_poll(struct destination *d, int fd, int64_t timeout_ns, struct error *err) {
    struct pollfd p[OWN_POLL_FDS + VISITOR_POLL_FDS] = {
        { .fd = fd, .events = POLLIN },
        { .fd = d->link ? link_poll_fd(d->link) : -1, .events = POLLIN },
        { .fd = d->loaded ? -1 : d->config->signal_fd, .events = POLLIN },
        { .fd = d->vmm->ops->poll_fd(d->vmm), .events = POLLIN },
        { .fd = d->receive && !d->loaded ? ram_receive_poll_fd(d->receive) : -1, .events = POLLIN },
        { .fd = d->loaded ? -1 : d->cancel_fd, .events = POLLIN },
    };
    visitors_prepare(d, p + OWN_POLL_FDS);
    int64_t most = d->receive != NULL && !d->loading ? LOAD_INTERVAL : CLOCK_S; /* which is for visitors' deadlines */
    int64_t limit = timeout_ns < most ? timeout_ns : most;
    if (poll(p, OWN_POLL_FDS + VISITOR_POLL_FDS, limit > 0 ? (int)((limit + CLOCK_MS - 1) / CLOCK_MS) : 0) < 0) {
        return errno == EINTR ? 0 : error_errno(err, ERROR_SYSTEM, "poll");
    }
    if (p[2].revents != 0 || p[5].revents != 0) {
        return error_set(err, ERROR_CANCELLED, "cancelled at the destination");
    }
    if (p[3].revents != 0 && d->vmm->ops->drive(d->vmm, err) < 0) {
        return -1;
    }
    /* A channel that failed has the cause; the link would only tell that it broke. */
    if (p[4].revents != 0 && ram_receive_poll(d->receive, 0, err) < 0) {
        return -1;
    }
    if ((p[4].revents != 0 && destination_tell_rejections(d, err) < 0) || destination_tell_load(d, err) < 0) {
        return -1;
    }
    if (p[1].revents != 0 && take_messages(d, err) < 0) {
        return -1;
    }
    devices_tell(&d->devices, &d->events);
    return visitors_handle(d, p + OWN_POLL_FDS, err);
}

static int serve_stage(struct destination *d, const struct stage *stage, json_t *args, struct error *err) {
    if (fault_planned("kill-destination", stage->name)) {
        raise(SIGKILL);
    }
    if (fault_planned("fail-destination", stage->name)) {
        return error_set(err, ERROR_SYSTEM, "a fault was planned for stage '%s'", stage->name);
    }
    json_t *reply = json_object();
    if (stage->destination(d, args, reply, err) < 0) {
        json_decref(reply);
        return -1;
    }
    json_object_set_new(reply, "type", json_string("reply"));
    json_object_set_new(reply, "stage", json_string(stage->name));
    int rc = link_send(d->link, reply, err);
    if (d->ran) {
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

/* Stages come in the order of the table: whatever else the peer asks for is refused. */
static int serve_request(struct destination *d, struct error *err) {
    json_t *request = d->request;
    d->request = NULL;
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
        rc = serve_stage(d, &stages[i], json_object_get(request, "args"), err);
    }
    json_decref(request);
    return rc;
}

static int serve(struct destination *d, struct error *err) {
    while (!d->finished) {
        if (destination_poll(d, -1, CLOCK_S, err) < 0) {
            return -1;
        }
        if (d->request != NULL && serve_request(d, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void tell_source(struct destination *d, const struct error *cause) {
    struct error ignored = { 0 };
    if (d->link != NULL && cause->class != ERROR_LINK) {
        json_t *message =
            json_pack("{s:s, s:s, s:s}", "type", "error", "class", error_class_name(cause->class), "desc", cause->desc);
        if (message == NULL || link_send(d->link, message, &ignored) < 0) {
            log_debug("could not tell the source");
        }
    }
}

/* Before the two sides have agreed nothing of ours was changed: whoever came was not the one we wait for. */
static bool may_wait_on(const struct destination *d, const struct error *err) {
    bool ours = err->class == ERROR_CANCELLED || err->class == ERROR_VMM || err->class == ERROR_SYSTEM;
    return d->link != NULL && !d->inspected && (d->given_up || !ours);
}

/* Sends the one away who came, and is as before. */
static void turn_away(struct destination *d, struct error *err) {
    tell_source(d, err);
    log_warning("refused this migration: %s; waiting for another", err->desc);
    events_emit(&d->events, "refused", json_pack("{s:s, s:s}", "peer", "the source", "why", err->desc));
    link_close(d->link);
    d->link = NULL;
    json_decref(d->request);
    d->request = NULL;
    d->stage = -1;
    d->given_up = false;
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

static int init(struct destination *d, struct error *err) {
    status_init(&d->status);
    if (events_open(&d->events, d->config->events_path, err) < 0 || vmm_inspect(d->vmm, VMM_DESTINATION, err) < 0) {
        return -1;
    }
    int64_t budget = d->params.value[PARAM_CPU_BUDGET];
    cpu_pace_init(&d->pace, budget == PARAM_AUTO ? 0 : (unsigned)budget);
    if (affinity_apply(d->params.cpu_affinity, err) < 0) {
        return -1;
    }
    d->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->cancel_fd < 0) {
        return error_errno(err, ERROR_SYSTEM, "eventfd");
    }
    d->listener = address_listen(&d->config->listen, err);
    if (d->listener < 0) {
        return -1;
    }
    if (d->config->control_path != NULL) {
        d->control = control_open(d->config->control_path, &destination_control_ops, d, err);
        if (d->control == NULL) {
            return -1;
        }
    }
    events_emit(&d->events, "listening", NULL);
    log_info("waiting at %s%s%s", d->config->listen.host, d->config->listen.port[0] ? " port " : "",
             d->config->listen.port);
    return 0;
}

static void release(struct destination *d) {
    control_close(d->control);
    if (d->cancel_fd >= 0) {
        close(d->cancel_fd);
    }
    if (d->listener >= 0) {
        close(d->listener);
        if (d->config->listen.kind == ADDRESS_UNIX) {
            unlink(d->config->listen.host);
        }
    }
    visitors_close(d);
    for (unsigned i = 0; i < d->channel_count; i++) {
        conn_break(&d->channels[i]);
    }
    cpu_pace_end(&d->pace);
    ram_receive_close(d->receive);
    devices_close(&d->devices);
    cpu_pace_destroy(&d->pace);
    relay_stop(&d->relay);
    link_close(d->link);
    for (unsigned i = 0; i < d->channel_count; i++) {
        conn_close(&d->channels[i]);
    }
    conn_close(&d->device);
    json_decref(d->request);
    ram_free(&d->ram);
}

/* What the operator should do with the destination's VMM now. */
static void advise(const struct destination *d, int status, bool spoiled) {
    if (status == 3 && d->asked) {
        log_error("the source has handed the guest over and does not run it: 'cont' here runs it, unless it runs "
                  "already%s",
                  d->running ? "" : "; if this VMM is gone, 'cont' at the source takes the guest back");
    } else if (status == 3) {
        log_error("it is not known whether the source has handed the guest over: it stays paused here. Look at the "
                  "source: if the guest runs there, end this VMM; if the source says 'in doubt', 'cont' here runs it");
    } else if (spoiled) {
        log_warning("the guest was not taken over; end this VMM and start it anew before the next try");
    } else if (d->link != NULL) {
        log_warning("the guest was not taken over; this VMM was not touched but for its memory and can wait for "
                    "another try");
    }
}

/* When the source gives up, its channels break and its VMM's stream ends, so that ours fails to load: symptoms, and
 * they may come before the source's word, for it resumes its guest first. When the link breaks itself, it breaks them
 * too. */
#define CAUSE_PATIENCE (200 * CLOCK_MS)

static void find_cause(struct destination *d, struct error *err) {
    bool symptom = err->class == ERROR_LINK || (err->class == ERROR_VMM && d->loading);
    if (!symptom || d->given_up || d->loaded || d->link == NULL) {
        return;
    }
    int64_t deadline = clock_now() + CAUSE_PATIENCE, left;
    struct error cause = { 0 };
    struct pollfd p = { .fd = link_poll_fd(d->link), .events = POLLIN };
    while ((left = deadline - clock_now()) > 0) {
        if (poll(&p, 1, (int)(left / CLOCK_MS) + 1) > 0 && take_messages(d, &cause) < 0) {
            *err = cause;
            return;
        }
    }
}

static int conclude(struct destination *d, struct error *err) {
    struct error ignored = { 0 };
    int status = 1;
    if (d->ran) {
        /* The guest runs here; only the goodbye is missing. */
        log_warning("the source left without a goodbye: %s", err->desc);
        error_clear(err);
        return 0;
    }
    find_cause(d, err);
    const char *state = err->class == ERROR_CANCELLED ? "cancelled" : "failed";
    tell_source(d, err);
    if (d->loaded && !d->given_up) {
        status = 3;
        state = "in-doubt";
    }
    log_error("%s", err->desc);
    int discarded = d->vmm->ops->discard(d->vmm, &ignored);
    if (discarded < 0) {
        log_debug("discard: %s", ignored.desc);
    }
    advise(d, status, discarded != 0);
    pthread_mutex_lock(&d->status.lock);
    d->status.error = *err;
    d->status.error_stage = d->stage >= 0 ? stages[d->stage].name : "connect";
    d->status.state = state;
    pthread_mutex_unlock(&d->status.lock);
    return status;
}

static void note_totals(struct destination *d) {
    pthread_mutex_lock(&d->status.lock);
    d->status.times.total = clock_now() - d->status.started;
    d->status.transferred = d->link ? atomic_load(&link_conn(d->link)->received) : 0;
    for (unsigned i = 0; i < d->channel_count; i++) {
        d->status.transferred += atomic_load(&d->channels[i].received);
    }
    d->status.transferred += atomic_load(&d->relay.bytes);
    if (d->ran) {
        d->status.state = "completed";
    }
    pthread_mutex_unlock(&d->status.lock);
}

int destination_serve(const struct destination_config *config, json_t **report) {
    struct destination d = { .config = config,
                             .vmm = config->vmm,
                             .params = config->params,
                             .listener = -1,
                             .device = { .fd = -1 },
                             .cancel_fd = -1,
                             .stage = -1 };
    visitors_init(&d);
    struct error err = { 0 };
    int status = 0;
    if (init(&d, &err) < 0 || serve_one(&d, &err) < 0) {
        status = conclude(&d, &err);
    }
    note_totals(&d);
    *report = status_json(&d.status);
    json_t *accel = devices_json(&d.devices, d.receive ? ram_receive_fallbacks(d.receive) : 0);
    if (accel != NULL) {
        json_object_set_new(*report, "accel", accel);
    }
    events_emit(&d.events, "end", json_deep_copy(*report));
    release(&d);
    events_close(&d.events);
    return status;
}
