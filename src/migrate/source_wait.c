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
    uint64_t bytes = s->link ? atomic_load(&link_conn(s->link)->sent) : 0;
    for (unsigned i = 0; i < s->channel_count; i++) {
        bytes += atomic_load(&s->channels[i].sent);
    }
    return bytes + atomic_load(&s->switchover.relay.bytes);
}

static void show_progress(struct source *s) {
    if (clock_now() < s->progress_at || s->switchover.stopped_at != 0) { /* not while the guest stands still */
        return;
    }
    s->progress_at = clock_now() + PROGRESS_INTERVAL;
    pthread_mutex_lock(&s->status.lock);
    s->status.transferred = source_transferred(s);
    uint64_t done = s->send ? atomic_load(&ram_send_counters(s->send)->done) * RAM_PAGE_SIZE : 0;
    uint64_t left = s->status.remaining > done ? s->status.remaining - done : 0;
    double seconds = (double)(clock_now() - s->status.started) / 1e9;
    char text[160];
    snprintf(text, sizeof(text), "%s: pass %u, %.0f MiB sent, %.0f MiB left, %.1f s", s->status.stage, s->status.passes,
             (double)s->status.transferred / (1 << 20), (double)left / (1 << 20), seconds);
    pthread_mutex_unlock(&s->status.lock);
    if (s->config->progress) {
        log_progress(text);
    }
}

static int take_rejection(struct source *s, json_t *message, struct error *err) {
    json_int_t device = json_integer_value(json_object_get(message, "device"));
    if (s->send == NULL) {
        return error_set(err, ERROR_PEER, "the destination rejects pages before any were sent");
    }
    if (rejections_take(&s->rejections, &s->ram, message, err) < 0) {
        return -1;
    }
    log_debug("the destination rejects a batch of device %lld", (long long)device);
    if (device > 0 && device <= UINT8_MAX) {
        ram_send_blame(s->send, (unsigned)device);
    }
    events_emit(&s->events, "rejected", json_pack("{s:I}", "device", device));
    return 0;
}

/* What the destination says: a reply, or that it failed. */
static int handle_message(struct source *s, json_t *message, struct error *err) {
    const char *type = json_string_value(json_object_get(message, "type"));
    if (type != NULL && strcmp(type, "reply") == 0 && s->reply == NULL) {
        s->reply = json_incref(message);
        return 0;
    }
    if (type != NULL && strcmp(type, "error") == 0) {
        const char *class = json_string_value(json_object_get(message, "class"));
        const char *desc = json_string_value(json_object_get(message, "desc"));
        return error_set(err, error_class_from_name(class ? class : ""), "destination: %s",
                         desc ? desc : "(no reason)");
    }
    if (type != NULL && strcmp(type, "load") == 0) {
        if (s->send != NULL) { /* before there is a sender nobody goes by it */
            source_take_load(s, message);
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

static int take_messages(struct source *s, struct error *err) {
    json_t *message;
    int rc;
    while ((rc = link_receive(s->link, &message, err)) > 0) {
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

/* While the VMM is waited for: a destination that has failed ends that. */
static int tick(void *opaque, struct error *err) {
    struct source *s = opaque;
    struct pollfd p = { .fd = s->link != NULL ? link_poll_fd(s->link) : -1, .events = POLLIN };
    return poll(&p, 1, 0) > 0 ? take_messages(s, err) : 0;
}

void source_watch_vmm(struct source *s) {
    struct vmm_watch watch = {
        .fds = { s->config->signal_fd, s->cancel_fd }, .fd_count = 2, .tick = tick, .opaque = s
    };
    s->vmm->ops->set_watch(s->vmm, &watch);
}

static int64_t stop_limit(struct source *s) {
    pthread_mutex_lock(&s->params_lock);
    int64_t ns = params_stop_limit(&s->params);
    pthread_mutex_unlock(&s->params_lock);
    return ns;
}

/* An answer that comes together with the end of the deadline has come. */
static int check_deadline(struct source *s, struct error *err) {
    return s->reply == NULL ? switchover_check(&s->switchover, s->stage, err) : 0;
}

int source_poll(struct source *s, int fd, int64_t timeout_ns, struct error *err) {
    switchover_set_limit(&s->switchover, stop_limit(s));
    int64_t left = switchover_left(&s->switchover);
    struct pollfd p[5] = {
        { .fd = fd, .events = POLLIN },
        { .fd = s->link ? link_poll_fd(s->link) : -1, .events = POLLIN },
        { .fd = source_handed_over(s) ? -1 : s->config->signal_fd, .events = POLLIN },
        { .fd = source_handed_over(s) ? -1 : s->cancel_fd, .events = POLLIN },
        { .fd = source_handed_over(s) ? -1 : s->vmm->ops->poll_fd(s->vmm), .events = POLLIN },
    };
    timeout_ns = timeout_ns < left ? timeout_ns : left;
    if (timeout_ns > PROGRESS_INTERVAL) {
        timeout_ns = PROGRESS_INTERVAL;
    }
    int ms = timeout_ns > 0 ? (int)((timeout_ns + CLOCK_MS - 1) / CLOCK_MS) : 0;
    if (poll(p, 5, ms) < 0 && errno != EINTR) {
        return error_errno(err, ERROR_SYSTEM, "poll");
    }
    ledger_beat(s->vmm->ledger);
    show_progress(s);
    source_converge_lapse(s);
    source_plan_keep(s);
    devices_tell(&s->devices, &s->events);
    if ((p[2].revents != 0 || p[3].revents != 0) && source_check_cancel(s, err) < 0) {
        return -1;
    }
    /* After the hand-over this side's VMM is not what it is about any more. */
    if (p[4].revents != 0 && !source_handed_over(s) && s->vmm->ops->drive(s->vmm, err) < 0) {
        return -1;
    }
    return s->link && p[1].revents != 0 && take_messages(s, err) < 0 ? -1 : check_deadline(s, err);
}

void source_find_cause(struct source *s, struct error *err) {
    if (err->class != ERROR_LINK || s->link == NULL) {
        return;
    }
    int64_t deadline = clock_now() + CAUSE_PATIENCE, left;
    struct error cause = { 0 };
    struct pollfd p = { .fd = link_poll_fd(s->link), .events = POLLIN };
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
    return link_send(s->link, message, err);
}

int source_await(struct source *s, int64_t timeout_ns, json_t **reply, struct error *err) {
    int64_t deadline = clock_now() + timeout_ns;
    while (s->reply == NULL) {
        if (source_poll(s, -1, deadline - clock_now(), err) < 0) {
            return -1;
        }
        if (s->reply == NULL && clock_now() >= deadline) {
            return error_set(err, ERROR_PEER, "the destination did not finish '%s' within %lld s", s->stage,
                             (long long)(timeout_ns / CLOCK_S));
        }
    }
    json_t *got = s->reply;
    s->reply = NULL;
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
