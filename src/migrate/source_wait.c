/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/source.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#define PROGRESS_INTERVAL (200 * CLOCK_MS)
#define CAUSE_PATIENCE (200 * CLOCK_MS)

uint64_t source_transferred(struct source *s) {
    return peer_sent(&s->peer) + atomic_load(&s->switchover.relay.bytes);
}

/* Every PROGRESS_INTERVAL, but not while the guest stands still. */
static int show_progress(void *opaque, struct error *err) {
    struct source *s = opaque;
    (void)err;
    loop_arm(&s->hall.loop, &s->hall.progress, clock_now() + PROGRESS_INTERVAL);
    if (s->switchover.stopped_at != 0) {
        return 0;
    }
    uint64_t done = s->sender.send ? atomic_load(&ram_send_counters(s->sender.send)->done) : 0;
    uint64_t left = s->sender.dirty > done ? (s->sender.dirty - done) * RAM_PAGE_SIZE : 0;
    char text[160];
    pthread_mutex_lock(&s->status.lock);
    s->status.sent.transferred = source_transferred(s);
    double seconds = (double)(clock_now() - s->status.started) / 1e9;
    snprintf(text, sizeof(text), "%s: pass %u, %.0f MiB sent, %.0f MiB left, %.1f s", s->status.stage,
             s->status.sent.passes, (double)s->status.sent.transferred / (1 << 20), (double)left / (1 << 20), seconds);
    pthread_mutex_unlock(&s->status.lock);
    if (s->config->progress) {
        log_progress(text);
    }
    return 0;
}

static int take_rejection(struct source *s, json_t *message, struct error *err) {
    json_int_t device = json_integer_value(json_object_get(message, "device"));
    if (s->sender.send == NULL) {
        return error_set(err, ERROR_PEER, "the destination rejects pages before any were sent");
    }
    if (rejections_take(&s->sender.rejections, &s->sender.ram, message, err) < 0) {
        return -1;
    }
    log_debug("the destination rejects a batch of device %lld", (long long)device);
    if (device > 0 && device <= UINT8_MAX) {
        ram_send_blame(s->sender.send, (unsigned)device);
    }
    events_emit(&s->events, "rejected", json_pack("{s:I}", "device", device));
    return 0;
}

/* What the destination says: a reply, or that it failed. */
static int handle_message(struct source *s, json_t *message, struct error *err) {
    const char *type = json_string_value(json_object_get(message, "type"));
    if (type != NULL && strcmp(type, "reply") == 0 && s->peer.reply == NULL) {
        s->peer.reply = json_incref(message);
        return 0;
    }
    if (type != NULL && strcmp(type, "error") == 0) {
        const char *class = json_string_value(json_object_get(message, "class"));
        const char *desc = json_string_value(json_object_get(message, "desc"));
        return error_set(err, error_class_from_name(class ? class : ""), "destination: %s",
                         desc ? desc : "(no reason)");
    }
    if (type != NULL && strcmp(type, "load") == 0) {
        if (s->sender.send != NULL) { /* before there is a sender nobody goes by it */
            peer_take_load(s->sender.send, message);
        }
        return 0;
    }
    if (type != NULL && strcmp(type, "rejected") == 0) {
        return take_rejection(s, message, err);
    }
    if (type != NULL && strcmp(type, "never") == 0 && source_handed_over(s)) {
        const char *desc = json_string_value(json_object_get(message, "desc"));
        s->switchover.never = true;
        return error_set(err, ERROR_VMM, "the destination will never run the guest: %s", desc ? desc : "(no reason)");
    }
    return error_set(err, ERROR_PEER, "the destination said '%.32s' at stage '%s', which it must not say then",
                     type ? type : "(no type)", s->stage);
}

static int take_messages(void *opaque, struct error *err) {
    struct source *s = opaque;
    json_t *message;
    int rc;
    while ((rc = link_receive(s->peer.link, &message, err)) > 0) {
        rc = handle_message(s, message, err);
        json_decref(message);
        if (rc < 0) {
            return -1;
        }
    }
    return rc;
}

int source_check_cancel(struct source *s, struct error *err) {
    if (source_handed_over(s)) {
        log_warning("too late to cancel: the guest has been handed over");
        return 0;
    }
    return error_set(err, ERROR_CANCELLED, "cancelled; the guest runs on at the source");
}

static int cancelled(void *opaque, struct error *err) {
    return source_check_cancel(opaque, err);
}

static int drive_vmm(void *opaque, struct error *err) {
    struct source *s = opaque;
    return s->vmm->ops->drive(s->vmm, err);
}

/* While the VMM is waited for: the guardian hears that we live, and a destination that has failed ends the wait. */
static int tick(void *opaque, struct error *err) {
    struct source *s = opaque;
    struct pollfd p = { .fd = s->peer.link != NULL ? link_poll_fd(s->peer.link) : -1, .events = POLLIN };
    ledger_beat(s->vmm->ledger);
    return poll(&p, 1, 0) > 0 ? take_messages(s, err) : 0;
}

void source_wait_open(struct source *s) {
    struct hall *h = &s->hall;
    struct vmm_watch watch = {
        .fds = { s->config->signal_fd, s->cancel_fd }, .fd_count = 2, .tick = tick, .opaque = s
    };
    s->vmm->ops->set_watch(s->vmm, &watch);
    h->signals = (struct loop_watch){ .fd = s->config->signal_fd, .ready = cancelled, .opaque = s };
    h->cancel = (struct loop_watch){ .fd = s->cancel_fd, .ready = cancelled, .opaque = s };
    h->vmm = (struct loop_watch){ .fd = s->vmm->ops->poll_fd(s->vmm), .ready = drive_vmm, .opaque = s };
    h->progress = (struct loop_deadline){ .due = show_progress, .opaque = s };
    loop_watch(&h->loop, &h->signals);
    loop_watch(&h->loop, &h->cancel);
    loop_watch(&h->loop, &h->vmm);
    loop_arm(&h->loop, &h->progress, clock_now());
}

void source_wait_link(struct source *s) {
    s->hall.link = (struct loop_watch){ .fd = link_poll_fd(s->peer.link), .ready = take_messages, .opaque = s };
    loop_watch(&s->hall.loop, &s->hall.link);
}

void source_wait_handed_over(struct source *s) {
    s->vmm->ops->set_watch(s->vmm, NULL);
    loop_unwatch(&s->hall.loop, &s->hall.signals);
    loop_unwatch(&s->hall.loop, &s->hall.cancel);
    loop_unwatch(&s->hall.loop, &s->hall.vmm);
}

void source_wait_close(struct source *s) {
    loop_close(&s->hall.loop);
}

static int64_t stop_limit(struct source *s) {
    pthread_mutex_lock(&s->settings.lock);
    int64_t ns = params_stop_limit(&s->settings.params);
    pthread_mutex_unlock(&s->settings.lock);
    return ns;
}

/* An answer that comes together with the end of the deadline has come. */
static int check_deadline(struct source *s, struct error *err) {
    return s->peer.reply == NULL ? switchover_check(&s->switchover, s->stage, err) : 0;
}

static int nothing(void *opaque, struct error *err) {
    (void)opaque;
    (void)err;
    return 0;
}

int source_poll(struct source *s, int fd, int64_t timeout_ns, struct error *err) {
    struct loop_watch caller = { .fd = fd, .ready = nothing };
    ledger_beat(s->vmm->ledger);
    switchover_set_limit(&s->switchover, stop_limit(s));
    int64_t left = switchover_left(&s->switchover);
    loop_watch(&s->hall.loop, &caller);
    int rc = loop_turn(&s->hall.loop, timeout_ns < left ? timeout_ns : left, err);
    loop_unwatch(&s->hall.loop, &caller);
    devices_tell(&s->sender.devices, &s->events);
    return rc < 0 ? -1 : check_deadline(s, err);
}

void source_find_cause(struct source *s, struct error *err) {
    if (err->class != ERROR_LINK || s->peer.link == NULL) {
        return;
    }
    int64_t deadline = clock_now() + CAUSE_PATIENCE, left;
    struct error cause = { 0 };
    struct pollfd p = { .fd = link_poll_fd(s->peer.link), .events = POLLIN };
    while ((left = deadline - clock_now()) > 0) {
        if (poll(&p, 1, (int)(left / CLOCK_MS) + 1) > 0 && take_messages(s, &cause) < 0) {
            *err = cause;
            return;
        }
    }
}

int source_request(struct source *s, json_t *args, struct error *err) {
    json_t *message =
        json_pack("{s:s, s:s, s:o}", "type", "request", "stage", s->stage, "args", args ? args : json_object());
    int64_t within = switchover_within(&s->switchover);
    if (within != 0) {
        json_object_set_new(message, "within", json_integer((json_int_t)within));
    }
    return link_send(s->peer.link, message, err);
}

int source_await(struct source *s, int64_t timeout_ns, json_t **reply, struct error *err) {
    int64_t deadline = clock_now() + timeout_ns;
    while (s->peer.reply == NULL) {
        if (source_poll(s, -1, deadline - clock_now(), err) < 0) {
            return -1;
        }
        if (s->peer.reply == NULL && clock_now() >= deadline) {
            return error_set(err, ERROR_PEER, "the destination did not finish '%s' within %lld s", s->stage,
                             (long long)(timeout_ns / CLOCK_S));
        }
    }
    json_t *got = s->peer.reply;
    s->peer.reply = NULL;
    const char *stage = json_string_value(json_object_get(got, "stage"));
    if (stage == NULL || strcmp(stage, s->stage) != 0) {
        json_decref(got);
        return error_set(err, ERROR_PEER, "the destination answered to another stage than '%s'", s->stage);
    }
    if (reply != NULL) {
        *reply = got;
    } else {
        json_decref(got);
    }
    return 0;
}
