/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/outbound.h"

#include "base/clock.h"
#include "relay/origin.h"
#include "relay/post.h"
#include "relay/report.h"
#include "wire/connect.h"
#include "wire/hello.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT_TIMEOUT (10 * CLOCK_S)
/* For the other relay, which connects to QEMU meanwhile. */
#define OPEN_TIMEOUT 15 /* s */

struct outbound {
    struct shared *shared;
    struct origin origin;
    struct carry carry;
    struct member member;
};

static int begin(struct outbound *o, int fd, struct error *err) {
    if (carry_init(&o->carry, CARRY_AT_SOURCE, err) < 0) {
        close(fd);
        return -1;
    }
    carry_set_qemu(&o->carry, fd);
    o->member.carry = &o->carry;
    return origin_of(fd, o->shared->config->redirected, &o->origin, err) < 0
               ? -1
               : migrations_join_whose(&o->shared->migrations, o->origin.whose, &o->member, err);
}

struct outbound *outbound_begin(struct shared *s, int fd, const char *peer) {
    struct error err = { 0 };
    struct outbound *o = calloc(1, sizeof(*o));
    if (o == NULL) {
        error_errno(&err, ERROR_SYSTEM, "no memory");
        report_refused(s, peer, &err);
        close(fd);
        return NULL;
    }
    o->shared = s;
    if (begin(o, fd, &err) < 0) {
        report_refused(s, peer, &err);
        carry_close(&o->carry);
        free(o);
        return NULL;
    }
    return o;
}

/* The other relay has connected to QEMU, or says why not. */
static int await_opened(struct carry *c, struct error *err) {
    struct packet p;
    int rc = post_take(&c->wire, &c->taken, &p, c->in_data, err);
    if (rc > 0) {
        return error_set(err, ERROR_LINK, "the destination's relay closed the connection");
    }
    if (rc == 0 && p.kind != PACKET_OPENED) {
        return error_set(err, ERROR_PEER, "the destination's relay sent a packet of kind %u first", p.kind);
    }
    return rc;
}

/* A rule that catches what the relay itself connects to brings that back to it, and so on without end. */
static int check_no_circle(const struct outbound *o, struct error *err) {
    const struct relay_config *config = o->shared->config;
    if (config->redirected && origin_wanted(&o->origin, &config->to, CONNECT_TIMEOUT)) {
        return error_set(err, ERROR_REFUSED,
                         "the firewall redirects here what this relay connects to, the other relay (--to): leave that "
                         "port out of its rule. See the man page of 'godwit relay'");
    }
    return 0;
}

static int connect_relay(struct outbound *o, struct error *err) {
    const struct connect_how how = { .timeout = CONNECT_TIMEOUT,
                                     .server = "is 'godwit relay --listen' running there?" };
    const struct timeval limit = { .tv_sec = OPEN_TIMEOUT };
    int fd = connect_to(&o->shared->config->to, &how, err);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    conn_init(&o->carry.wire, fd, "the relays' connection");
    return 0;
}

static int open_there(struct outbound *o, struct error *err) {
    struct carry *c = &o->carry;
    struct hello h = { .role = ROLE_RELAY, .channel = (uint16_t)o->member.number };
    memcpy(h.session, o->member.of->session, SESSION_SIZE);
    if (migrations_await_turn(&o->shared->migrations, &o->member, err) < 0 || check_no_circle(o, err) < 0 ||
        connect_relay(o, err) < 0 || hello_send(&c->wire, &h, err) < 0 ||
        post_word(&c->wire, PACKET_OPEN, &c->sent, o->origin.wanted, err) < 0 || hello_receive(&c->wire, &h, err) < 0 ||
        await_opened(c, err) < 0) {
        return -1;
    }
    migrations_opened(&o->shared->migrations, &o->member);
    return 0;
}

static void end(struct outbound *o, const struct error *why) {
    struct migration_end end;
    uint8_t session[SESSION_SIZE];
    memcpy(session, o->member.of->session, SESSION_SIZE);
    report_closed(o->shared, &o->member, why);
    migrations_leave(&o->shared->migrations, &o->member, why, &end);
    if (end.last) {
        report_end(o->shared, session, &end);
    }
    carry_close(&o->carry);
    free(o);
}

void outbound_refuse(struct outbound *o, const struct error *why) {
    end(o, why);
}

void outbound_run(struct outbound *o) {
    struct error err = { 0 };
    const struct address *to = &o->shared->config->to;
    int rc = open_there(o, &err);
    if (rc == 0) {
        char text[300];
        snprintf(text, sizeof(text), "%s%s%s", to->host, to->port[0] ? " port " : "", to->port);
        report_opened(o->shared, &o->member, o->origin.whose, text);
        rc = carry_run(&o->carry, o->shared->config->silence, &err);
    }
    end(o, rc < 0 ? &err : NULL);
}
