/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/carry.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "relay/post.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* Between two words of one who has nothing to say. */
#define BEAT_MS 1000
/* Until this host may have memory for a socket again. */
#define SHORT (20 * CLOCK_MS)
/* For the other half, and for the other relay, to say better why it ended. */
#define MOMENT CLOCK_S

/* The pages and bytes of a stream have no other use yet than to be counted. */
static int take_item(void *opaque, const struct item *i, struct error *err) {
    (void)opaque;
    (void)i;
    (void)err;
    return 0;
}

static const char *side_name(const struct carry *c) {
    return c->side == CARRY_AT_SOURCE ? "source" : "destination";
}

static void init_waiting(struct carry *c) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&c->lock, NULL);
}

int carry_init(struct carry *c, enum carry_side side, struct error *err) {
    static const struct item_sink nowhere = { .take = take_item };
    *c = (struct carry){ .side = side, .qemu = -1 };
    conn_init(&c->wire, -1, "the relays' connection");
    init_waiting(c);
    if ((side == CARRY_AT_SOURCE && (c->reader = reader_open(&nowhere, err)) == NULL) ||
        tally_open(&c->sent, err) < 0 || tally_open(&c->taken, err) < 0) {
        return -1;
    }
    c->out_data = malloc(PACKET_MOST + 1);
    c->in_data = malloc(PACKET_MOST + 1);
    return c->out_data != NULL && c->in_data != NULL ? 0 : error_set(err, ERROR_SYSTEM, "no memory to carry a stream");
}

void carry_close(struct carry *c) {
    cleanup_close_fd(&c->qemu);
    conn_close(&c->wire);
    reader_close(c->reader);
    tally_close(&c->sent);
    tally_close(&c->taken);
    free(c->out_data);
    free(c->in_data);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}

/* ---- what the halves know of each other ---- */

/* This QEMU is not to take it for an end that another QEMU made: where TCP can say so, the connection is reset when it
 * is closed. Else it ends too early, which is an error too, but for a multifd channel of QEMUs such as 7.2. It also
 * wakes the half that waits for what this QEMU says; who waits until it takes more looks up by himself. */
static void cut_off(const struct carry *c) {
    const struct linger reset = { .l_onoff = 1 };
    bool can_reset = c->is_tcp && setsockopt(c->qemu, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0;
    shutdown(c->qemu, can_reset ? SHUT_RD : SHUT_RDWR);
}

void carry_fail(struct carry *c, const struct error *why) {
    LOCK_GUARD(&c->lock);
    if (!c->failed) {
        c->failed = true;
        c->failure = *why;
    }
    if (c->qemu >= 0) {
        cut_off(c);
    }
    pthread_cond_broadcast(&c->changed);
}

void carry_set_qemu(struct carry *c, int fd) {
    LOCK_GUARD(&c->lock);
    struct sockaddr_storage name = { 0 };
    socklen_t size = sizeof(name);
    c->qemu = fd;
    c->is_tcp = getsockname(fd, (struct sockaddr *)&name, &size) == 0 && name.ss_family != AF_UNIX;
    if (c->failed) {
        cut_off(c);
    }
}

static void tell(struct carry *c, bool *what) {
    LOCK_GUARD(&c->lock);
    *what = true;
    pthread_cond_broadcast(&c->changed);
}

/* A half of ours, and not the owner, has found it out. */
static void half_failed(struct carry *c, const struct error *why) {
    if (why->class == ERROR_LINK) {
        tell(c, &c->wire_broken);
    }
    carry_fail(c, why);
    if (c->on_failure != NULL) {
        c->on_failure(c->opaque, why);
    }
}

static bool has_failed(struct carry *c) {
    LOCK_GUARD(&c->lock);
    return c->failed;
}

/* Waits until one of the two is true, or for `ns`; whether one is. */
static bool wait_for(struct carry *c, const bool *a, const bool *b, int64_t ns) {
    int64_t until = clock_now() + ns;
    struct timespec at = { .tv_sec = (time_t)(until / CLOCK_S), .tv_nsec = until % CLOCK_S };
    LOCK_GUARD(&c->lock);
    while (!*a && !*b && pthread_cond_timedwait(&c->changed, &c->lock, &at) == 0) {
    }
    return *a || *b;
}

/* A half that has ended: when it failed the other one gets a moment, and then nothing to wait for any more. */
static void leave(struct carry *c, bool *over, const bool *other_over) {
    tell(c, over);
    if (has_failed(c)) {
        wait_for(c, other_over, other_over, MOMENT);
        conn_break(&c->wire);
    }
}

/* By errno, of a socket that is as it was. */
static bool lacks_memory(void) {
    return errno == ENOBUFS || errno == ENOMEM;
}

/* ---- out ---- */

enum came { CAME_NOTHING, CAME_BYTES, CAME_END, CAME_ERROR };

/* However a QEMU ends its connection, what it said before is carried, and then that it has ended: whether that was all
 * is the other QEMU's to judge, as it is without relays. An error that is no end of QEMU's is none that is carried. */
static enum came read_qemu(struct carry *c, size_t *size, struct error *err) {
    struct pollfd p = { .fd = c->qemu, .events = POLLIN };
    int ready = poll(&p, 1, BEAT_MS);
    if (ready == 0 || (ready < 0 && errno == EINTR)) {
        return CAME_NOTHING;
    }
    ssize_t n = recv(c->qemu, c->out_data, PACKET_MOST, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return CAME_NOTHING;
    }
    if (n < 0 && lacks_memory()) {
        clock_sleep(SHORT);
        return CAME_NOTHING;
    }
    if (n < 0 && errno != ECONNRESET) {
        error_errno(err, ERROR_VMM, "cannot read what the %s's QEMU says", side_name(c));
        return CAME_ERROR;
    }
    *size = n > 0 ? (size_t)n : 0;
    return n > 0 ? CAME_BYTES : CAME_END;
}

static int send_bytes(struct carry *c, size_t size, struct error *err) {
    if (c->reader != NULL && reader_feed(c->reader, c->out_data, size, err) < 0) {
        return -1;
    }
    bool corrupt = fault_value("corrupt-carried", side_name(c), 0) == (int64_t)++c->data_packets;
    return post_data(&c->wire, &c->sent, c->out_data, size, corrupt, err);
}

/* The other relay is told of the end, and hears from us until the other direction has ended too. */
static int send_end(struct carry *c, struct error *err) {
    atomic_store(&c->qemu_ended, true);
    tell(c, &c->end_sent); /* before it is: the other relay may have closed by the time that it has been */
    if ((c->reader != NULL && reader_finish(c->reader, err) < 0) ||
        post_word(&c->wire, PACKET_END, &c->sent, NULL, err) < 0) {
        return -1;
    }
    while (!wait_for(c, &c->end_taken, &c->failed, BEAT_MS * CLOCK_MS)) {
        if (post_word(&c->wire, PACKET_ALIVE, &c->sent, NULL, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int carry_out(struct carry *c, struct error *err) {
    for (int rc = 0; rc == 0;) {
        size_t size = 0;
        enum came came = read_qemu(c, &size, err);
        if (has_failed(c)) {
            return 0;
        }
        if (came == CAME_END || came == CAME_ERROR) {
            return came == CAME_END ? send_end(c, err) : -1;
        }
        rc = came == CAME_BYTES ? send_bytes(c, size, err) : post_word(&c->wire, PACKET_ALIVE, &c->sent, NULL, err);
    }
    return -1;
}

/* Not of what it said itself, and not when it cannot be told anything: another connection's link may be what broke. */
static void tell_other(struct carry *c) {
    struct error ignored = { 0 };
    pthread_mutex_lock(&c->lock);
    struct error why = c->failure;
    bool knows = c->other_failed || c->wire_broken;
    pthread_mutex_unlock(&c->lock);
    if (!knows) {
        post_word(&c->wire, PACKET_ABORT, &c->sent, why.desc, &ignored);
    }
}

/* ---- in ---- */

/* The source's QEMU may close before it has read all that came back, which takes nothing from what it said before. At
 * the destination what cannot be given out is missing. */
static int give_qemu(struct carry *c, const uint8_t *data, size_t size, struct error *err) {
    while (size > 0 && !c->deaf && !has_failed(c)) {
        ssize_t n = send(c->qemu, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            struct pollfd p = { .fd = c->qemu, .events = POLLOUT };
            poll(&p, 1, BEAT_MS);
            continue;
        }
        if (n < 0 && lacks_memory()) {
            clock_sleep(SHORT);
            continue;
        }
        if (n < 0 && c->side == CARRY_AT_SOURCE && (errno == EPIPE || errno == ECONNRESET)) {
            c->deaf = true;
            break;
        }
        if (n < 0) {
            return error_errno(err, ERROR_VMM, "the %s's QEMU takes no more of the stream (its log says why)",
                               side_name(c));
        }
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static int take_packet(struct carry *c, const struct packet *p, struct error *err) {
    if (p->kind == PACKET_ALIVE) {
        return 0;
    }
    if ((p->kind != PACKET_DATA && p->kind != PACKET_END) || c->end_taken) {
        return error_set(err, ERROR_PEER, "the other relay sent a packet of kind %u out of its turn", p->kind);
    }
    if (p->kind == PACKET_DATA) {
        return give_qemu(c, c->in_data, p->size, err);
    }
    shutdown(c->qemu, SHUT_WR);
    tell(c, &c->end_taken);
    return 0;
}

static bool both_ended(struct carry *c) {
    LOCK_GUARD(&c->lock);
    return c->end_sent && c->end_taken;
}

/* 0: something has come, or the end; 1: there is nothing to wait for, because we have failed. */
static int await_packet(struct carry *c, struct error *err) {
    int64_t until = clock_now() + c->silence;
    struct pollfd p = { .fd = c->wire.fd, .events = POLLIN };
    while (!has_failed(c)) {
        int64_t left = until - clock_now();
        if (left <= 0) {
            return error_set(err, ERROR_LINK, "%s: the other relay said nothing for too long", c->wire.name);
        }
        if (poll(&p, 1, left < BEAT_MS * CLOCK_MS ? (int)(left / CLOCK_MS) + 1 : BEAT_MS) > 0) {
            return 0;
        }
    }
    return 1;
}

/* Behind the other's END too: then there is nothing to come, but that it is still there, or has failed. When both have
 * ended the link may end as it likes; what is said on it is held to as before. */
static int carry_in(struct carry *c, struct error *err) {
    while (!has_failed(c)) {
        struct packet p = { 0 };
        int rc = await_packet(c, err);
        if (rc > 0) {
            return 0;
        }
        rc = rc < 0 ? -1 : post_take(&c->wire, &c->taken, &p, c->in_data, err);
        if (rc != 0 && (rc > 0 || err->class == ERROR_LINK) && both_ended(c)) {
            error_clear(err);
            return 0;
        }
        if (rc > 0) {
            return error_set(err, ERROR_LINK,
                             "the other relay ended before the migration did: was it killed? Its log may say more");
        }
        if (rc < 0 && p.kind == PACKET_ABORT) {
            tell(c, &c->other_failed);
        }
        if (rc < 0 || take_packet(c, &p, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void *run_in(void *opaque) {
    struct carry *c = opaque;
    struct error err = { 0 };
    pthread_setname_np(pthread_self(), "carry in");
    if (carry_in(c, &err) < 0) {
        half_failed(c, &err);
    }
    leave(c, &c->in_over, &c->out_over);
    return NULL;
}

/* ---- both ---- */

static void make_ready(struct carry *c, int64_t silence) {
    struct timeval limit = { .tv_sec = (time_t)(silence / CLOCK_S),
                             .tv_usec = (suseconds_t)(silence % CLOCK_S / 1000) }; /* within a packet */
    c->silence = silence;
    setsockopt(c->wire.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    fcntl(c->wire.fd, F_SETFL, fcntl(c->wire.fd, F_GETFL) & ~O_NONBLOCK);
    fcntl(c->qemu, F_SETFL, fcntl(c->qemu, F_GETFL) & ~O_NONBLOCK);
}

static void run_out(struct carry *c) {
    struct error err = { 0 };
    if (carry_out(c, &err) < 0) {
        /* When the other relay broke the connection it may have said why, and that lies in front of the break. */
        wait_for(c, &c->failed, &c->in_over, err.class == ERROR_LINK ? MOMENT : 0);
        half_failed(c, &err);
    }
    if (has_failed(c)) {
        tell_other(c);
    }
    shutdown(c->wire.fd, SHUT_WR);
    leave(c, &c->out_over, &c->in_over);
}

int carry_run(struct carry *c, int64_t silence, struct error *err) {
    pthread_t in;
    make_ready(c, silence);
    int rc = pthread_create(&in, NULL, run_in, c);
    if (rc != 0) {
        errno = rc;
        error_errno(err, ERROR_SYSTEM, "cannot start a thread to carry a stream");
        carry_fail(c, err);
        return -1;
    }
    run_out(c);
    pthread_join(in, NULL);
    LOCK_GUARD(&c->lock);
    return c->failed ? error_set(err, c->failure.class, "%s", c->failure.desc) : 0;
}
