/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/caller.h"

#include "base/log.h"

#include <poll.h>
#include <string.h>

#define CAUSE_PATIENCE (200 * CLOCK_MS)
/* A failure is told so much before the source's time is over: a tenth of it, no more than this. */
#define MARGIN (100 * CLOCK_MS)
#define MOST_WITHIN (24 * 3600 * INT64_C(1000)) /* ms; more is none */

static int take_abort(struct caller *c, json_t *message, struct error *err) {
    const char *desc = json_string_value(json_object_get(message, "desc"));
    const char *class = json_string_value(json_object_get(message, "class"));
    c->gave_up = true;
    if (c->takeover->state != TAKEOVER_WAITING && takeover_move(c->takeover, TAKEOVER_GIVEN_UP, err) < 0) {
        return -1; /* it could not be written down, which is in doubt, and that is what the record says too */
    }
    return error_set(err, error_class_from_name(class ? class : ""), "the source gave up: %s",
                     desc ? desc : "(no reason)");
}

static int take_message(struct caller *c, json_t *message, struct error *err) {
    enum takeover_state state = c->takeover->state;
    const char *type = json_string_value(json_object_get(message, "type"));
    type = type != NULL ? type : "(none)";
    if (strcmp(type, "request") == 0 && c->request == NULL && !takeover_is_done(c->takeover)) {
        c->request = json_incref(message);
        return 0;
    }
    if (strcmp(type, "bye") == 0 && state == TAKEOVER_DONE) {
        return takeover_move(c->takeover, TAKEOVER_ENDED, err);
    }
    if (strcmp(type, "abort") == 0 && (state == TAKEOVER_WAITING || takeover_may_move(state, TAKEOVER_GIVEN_UP))) {
        return take_abort(c, message, err);
    }
    return error_set(err, ERROR_PEER, "the source said '%.32s' in the stage '%s', where it must not say that", type,
                     c->stage);
}

static int take_messages(void *opaque, struct error *err) {
    struct caller *c = opaque;
    json_t *message;
    int rc;
    while (c->takeover->state != TAKEOVER_ENDED && (rc = link_receive(c->link, &message, err)) != 0) {
        if (rc < 0) {
            return -1;
        }
        rc = take_message(c, message, err);
        json_decref(message);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

static int time_is_over(void *opaque, struct error *err) {
    struct caller *c = opaque;
    if (c->serving) {
        return error_set(err, ERROR_TIMEOUT, "'%s' takes longer than the guest may stand still", c->stage);
    }
    return error_set(err, ERROR_TIMEOUT,
                     "the source has asked for nothing since '%s', and the time for which its guest may stand still is "
                     "over",
                     c->stage);
}

void caller_init(struct caller *c, struct loop *loop, struct takeover *takeover) {
    *c = (struct caller){
        .loop = loop, .takeover = takeover, .device = { .fd = -1 }, .stage = "connect", .until = INT64_MAX
    };
    c->over = (struct loop_deadline){ .due = time_is_over, .opaque = c };
}

int caller_take(struct caller *c, const struct arrival *a, int64_t silence, struct error *err) {
    address_set_timeout(a->fd, silence);
    memcpy(c->session, a->session, SESSION_SIZE);
    c->request = a->request;
    c->link = link_open(a->fd, silence, err);
    if (c->link == NULL) {
        return -1;
    }
    c->watch = (struct loop_watch){ .fd = link_poll_fd(c->link), .ready = take_messages, .opaque = c };
    loop_watch(c->loop, &c->watch);
    return 0;
}

bool caller_expects(const struct caller *c, const struct hello *h) {
    if (c->link == NULL || memcmp(h->session, c->session, SESSION_SIZE) != 0) {
        return false;
    }
    if (h->role == ROLE_CHANNEL) {
        return h->channel == c->channel_count && h->channel < CALLER_CHANNELS;
    }
    return h->role == ROLE_DEVICE && c->device.fd < 0;
}

void caller_take_channel(struct caller *c, const struct hello *h, int fd, int64_t silence) {
    address_set_timeout(fd, silence);
    bool device = h->role == ROLE_DEVICE;
    struct conn *conn = device ? &c->device : &c->channels[c->channel_count++];
    conn_init(conn, fd, device ? "the device channel" : "a RAM channel");
    link_watch(c->link, conn);
}

/* The source waits for an answer until then, and a little later we say how it is, whatever happens. */
static void expect_verdict(struct caller *c) {
    bool open = takeover_is_open(c->takeover) && c->until != INT64_MAX;
    ledger_word_by(c->takeover->ledger, open ? c->until + CALLER_GRACE : 0);
}

int64_t caller_begin(struct caller *c, const char *stage, json_t *request) {
    json_t *value = json_object_get(request, "within");
    int64_t within = json_integer_value(value), answer_by = INT64_MAX;
    c->stage = stage;
    c->serving = true;
    c->until = INT64_MAX;
    bool stands = c->takeover->state == TAKEOVER_LOADING || c->takeover->state == TAKEOVER_LOADED;
    if (stands && json_is_integer(value) && within < MOST_WITHIN) {
        within = within > 0 ? within * CLOCK_MS : 0;
        c->until = clock_now() + within;
        answer_by = c->until - (within / 10 < MARGIN ? within / 10 : MARGIN);
    }
    loop_arm(c->loop, &c->over, answer_by);
    expect_verdict(c);
    return answer_by;
}

int caller_reply(struct caller *c, json_t *reply, struct error *err) {
    json_object_set_new(reply, "type", json_string("reply"));
    json_object_set_new(reply, "stage", json_string(c->stage));
    c->serving = false;
    bool waits = c->until != INT64_MAX && !takeover_is_done(c->takeover);
    loop_arm(c->loop, &c->over, waits ? c->until + CALLER_GRACE : INT64_MAX);
    expect_verdict(c);
    return link_send(c->link, reply, err);
}

void caller_say_end(struct caller *c, const char *type, const struct error *cause) {
    if (c->link == NULL || cause->class == ERROR_LINK) {
        return;
    }
    struct error ignored = { 0 };
    json_t *message =
        json_pack("{s:s, s:s, s:s}", "type", type, "class", error_class_name(cause->class), "desc", cause->desc);
    if (message == NULL || link_send(c->link, message, &ignored) < 0) {
        log_debug("could not tell the source");
    }
}

void caller_find_cause(struct caller *c, struct error *err) {
    if (c->link == NULL) {
        return;
    }
    int64_t deadline = clock_now() + CAUSE_PATIENCE, left;
    struct error cause = { 0 };
    struct pollfd p = { .fd = link_poll_fd(c->link), .events = POLLIN };
    while ((left = deadline - clock_now()) > 0) {
        if (poll(&p, 1, (int)(left / CLOCK_MS) + 1) > 0 && take_messages(c, &cause) < 0) {
            *err = cause;
            return;
        }
    }
}

uint64_t caller_received(struct caller *c) {
    uint64_t bytes = c->link != NULL ? atomic_load(&link_conn(c->link)->received) : 0;
    for (unsigned i = 0; i < c->channel_count; i++) {
        bytes += atomic_load(&c->channels[i].received);
    }
    return bytes;
}

void caller_break_channels(struct caller *c) {
    for (unsigned i = 0; i < c->channel_count; i++) {
        conn_break(&c->channels[i]);
    }
}

void caller_forget(struct caller *c) {
    loop_unwatch(c->loop, &c->watch);
    loop_disarm(c->loop, &c->over);
    link_close(c->link);
    for (unsigned i = 0; i < c->channel_count; i++) {
        conn_close(&c->channels[i]);
    }
    conn_close(&c->device);
    json_decref(c->request);
    caller_init(c, c->loop, c->takeover);
}
