/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who connects to the port. Anybody may, and with anything: a port scanner, a browser, another godwit, a client that
 * says nothing. Each is refused in one line, and nobody but the one source that is served can disturb the receiver:
 * hellos are read without blocking, a slow one has five seconds, and there is room for a fixed number of them.
 */
#include "migrate/destination.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define HELLO_PATIENCE (5 * CLOCK_S)

void visitors_init(struct destination *d) {
    for (size_t i = 0; i < DESTINATION_VISITORS; i++) {
        d->visitors[i].fd = -1;
    }
}

void visitors_close(struct destination *d) {
    for (size_t i = 0; i < DESTINATION_VISITORS; i++) {
        if (d->visitors[i].fd >= 0) {
            close(d->visitors[i].fd);
            d->visitors[i].fd = -1;
        }
    }
}

void visitors_prepare(struct destination *d, struct pollfd *p) {
    p[0] = (struct pollfd){ .fd = d->listener, .events = POLLIN };
    for (size_t i = 0; i < DESTINATION_VISITORS; i++) {
        p[i + 1] = (struct pollfd){ .fd = d->visitors[i].fd, .events = POLLIN };
    }
}

/* Each gets its line, but a flood of them does not fill the disk: beyond so many a second they are only counted. */
#define REFUSALS_A_SECOND 50

static bool may_say(struct destination *d) {
    struct refusals *r = &d->refusals;
    if (clock_now() - r->second > CLOCK_S) {
        if (r->said > REFUSALS_A_SECOND) {
            log_warning("refused %u more within a second", r->said - REFUSALS_A_SECOND);
        }
        *r = (struct refusals){ .second = clock_now() };
    }
    return ++r->said <= REFUSALS_A_SECOND;
}

static void refuse(struct destination *d, struct visitor *v, const char *why) {
    if (may_say(d)) {
        log_warning("refused %s: %s", v->peer, why);
        events_emit(&d->events, "refused", json_pack("{s:s, s:s}", "peer", v->peer, "why", why));
    }
    close(v->fd);
    v->fd = -1;
}

static void answer(struct visitor *v, enum welcome_status status, const uint8_t *session) {
    struct welcome w = { .version = PROTOCOL_VERSION, .status = (uint8_t)status };
    if (session != NULL) {
        memcpy(w.session, session, SESSION_SIZE);
    }
    uint8_t out[WELCOME_SIZE];
    welcome_encode(&w, out);
    if (send(v->fd, out, sizeof(out), MSG_NOSIGNAL) < 0) {
        log_debug("%s left before it was answered", v->peer);
    }
}

/* The visitor is one of the migration's connections from now on: blocking, with the migration's timeout. */
static int adopt(struct destination *d, struct visitor *v) {
    int fd = v->fd;
    v->fd = -1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    address_set_timeout(fd, d->params.value[PARAM_LINK_TIMEOUT] * CLOCK_S);
    return fd;
}

static void leave(struct visitor *v) {
    close(v->fd);
    v->fd = -1;
}

/* A migration begins. */
static void end_measuring(struct destination *d) {
    for (size_t i = 0; i < DESTINATION_VISITORS; i++) {
        struct visitor *v = &d->visitors[i];
        if (v->fd >= 0 && v->measuring.on) {
            leave(v);
        }
    }
}

static int accept_control(struct destination *d, struct visitor *v, struct error *err) {
    if (d->link != NULL) {
        answer(v, WELCOME_BUSY, NULL);
        refuse(d, v, "another migration is under way");
        return 0;
    }
    if (getrandom(d->session, SESSION_SIZE, 0) != SESSION_SIZE) {
        return error_errno(err, ERROR_SYSTEM, "getrandom");
    }
    answer(v, WELCOME_OK, d->session);
    end_measuring(d);
    log_info("migration from %s", v->peer);
    d->link = link_open(adopt(d, v), d->params.value[PARAM_LINK_TIMEOUT] * CLOCK_S, err);
    status_note_time(&d->status, &d->status.started, clock_now());
    return d->link != NULL ? 0 : -1;
}

/* One at a time, and nobody while a migration is served: its link is not to be filled by others. */
static void accept_measuring(struct destination *d, struct visitor *v) {
    bool busy = d->link != NULL;
    for (size_t i = 0; i < DESTINATION_VISITORS; i++) {
        busy |= d->visitors[i].fd >= 0 && d->visitors[i].measuring.on;
    }
    if (busy) {
        answer(v, WELCOME_BUSY, NULL);
        refuse(d, v, "another migration or measurement is under way");
        return;
    }
    answer(v, WELCOME_OK, NULL);
    measuring_begin(v);
}

static void go_on_measuring(struct destination *d, struct visitor *v) {
    enum measuring_state state = measuring_read(v);
    if (state == MEASURING_LEFT) {
        refuse(d, v, "it left before the link was measured");
    } else if (state == MEASURING_DONE) {
        leave(v);
    }
}

/* Channels come in order, after the two sides have agreed, and once each. */
static void accept_data(struct destination *d, struct visitor *v, const struct hello *h) {
    bool expected = d->link != NULL && d->inspected && !d->attached &&
                    memcmp(h->session, d->session, SESSION_SIZE) == 0 &&
                    (h->role == ROLE_CHANNEL ? h->channel == d->channel_count && h->channel < DESTINATION_CHANNELS
                                             : h->role == ROLE_DEVICE && d->device.fd < 0);
    if (!expected) {
        answer(v, WELCOME_SESSION, NULL);
        refuse(d, v, "it does not belong to this migration");
        return;
    }
    answer(v, WELCOME_OK, d->session);
    if (h->role == ROLE_DEVICE) {
        conn_init(&d->device, adopt(d, v), "the device channel");
        link_watch(d->link, &d->device);
        return;
    }
    struct conn *c = &d->channels[d->channel_count++];
    conn_init(c, adopt(d, v), "a RAM channel");
    link_watch(d->link, c);
}

static int judge(struct destination *d, struct visitor *v, struct error *err) {
    struct hello h;
    if (hello_decode(v->hello, &h) < 0) {
        refuse(d, v, "not a godwit");
        return 0;
    }
    if (h.version != PROTOCOL_VERSION) {
        char why[80];
        snprintf(why, sizeof(why), "it speaks protocol %d, this godwit speaks %d", h.version, PROTOCOL_VERSION);
        answer(v, WELCOME_VERSION, NULL);
        refuse(d, v, why);
        return 0;
    }
    if (h.role == ROLE_CONTROL) {
        return accept_control(d, v, err);
    }
    if (h.role == ROLE_MEASURE) {
        accept_measuring(d, v);
        return 0;
    }
    accept_data(d, v, &h);
    return 0;
}

static bool looks_like_http(const struct visitor *v) {
    static const char *const verbs[] = { "GET ", "POST", "HEAD", "PUT ", "OPTI", "CONN", "DELE", "PRI " };
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (v->have >= 4 && memcmp(v->hello, verbs[i], 4) == 0) {
            return true;
        }
    }
    return false;
}

static int read_hello(struct destination *d, struct visitor *v, struct error *err) {
    if (v->measuring.on) {
        go_on_measuring(d, v);
        return 0;
    }
    ssize_t n = recv(v->fd, v->hello + v->have, HELLO_SIZE - v->have, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    if (n <= 0) {
        refuse(d, v, "it left without a hello");
        return 0;
    }
    v->have += (unsigned)n;
    if (!hello_may_begin(v->hello, v->have)) {
        refuse(d, v, looks_like_http(v) ? "an HTTP request; this port speaks godwit" : "not a godwit");
        return 0;
    }
    return v->have == HELLO_SIZE ? judge(d, v, err) : 0;
}

/* A free place, or that of the one who has said nothing for longest: a crowd of silent clients must not keep the source
 * out. */
static struct visitor *room_for_one(struct destination *d) {
    struct visitor *oldest = &d->visitors[0];
    for (size_t i = 0; i < DESTINATION_VISITORS; i++) {
        struct visitor *v = &d->visitors[i];
        if (v->fd < 0) {
            return v;
        }
        oldest = v->deadline < oldest->deadline ? v : oldest;
    }
    refuse(d, oldest, "too many connections that say nothing");
    return oldest;
}

static void let_in(struct destination *d) {
    char peer[80];
    int fd;
    for (int i = 0; i < DESTINATION_VISITORS && (fd = address_accept(d->listener, peer, sizeof(peer))) >= 0; i++) {
        struct visitor *v = room_for_one(d);
        *v = (struct visitor){ .fd = fd, .deadline = clock_now() + HELLO_PATIENCE };
        snprintf(v->peer, sizeof(v->peer), "%s", peer);
    }
}

int visitors_handle(struct destination *d, const struct pollfd *p, struct error *err) {
    for (size_t i = 0; i < DESTINATION_VISITORS; i++) {
        struct visitor *v = &d->visitors[i];
        if (v->fd >= 0 && p[i + 1].fd == v->fd && p[i + 1].revents != 0 && read_hello(d, v, err) < 0) {
            return -1;
        }
        if (v->fd >= 0 && clock_now() > v->deadline) {
            refuse(d, v, v->measuring.on ? "it measured for too long" : "it said no hello within 5 s");
        }
    }
    if (p[0].revents != 0) {
        let_in(d);
    }
    return 0;
}
