/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/inbound.h"

#include "base/clock.h"
#include "base/text.h"
#include "relay/post.h"
#include "relay/report.h"
#include "wire/connect.h"
#include "wire/hello.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define HELLO_TIMEOUT (5 * CLOCK_S)
#define CONNECT_TIMEOUT (10 * CLOCK_S)

struct inbound {
    struct shared *shared;
    const char *peer;
    struct carry carry;
    struct member member;
    struct address to; /* the destination's QEMU */
    uint8_t session[SESSION_SIZE];
};

static void set_patience(struct carry *c, int64_t ns) {
    const struct timeval limit = { .tv_sec = (time_t)(ns / CLOCK_S) };
    setsockopt(c->wire.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    atomic_store(&c->wire.patience, ns);
}

static int welcome(struct carry *c, const struct hello *h, enum welcome_status status, struct error *err) {
    struct welcome w = { .version = PROTOCOL_VERSION, .status = (uint8_t)status };
    uint8_t out[WELCOME_SIZE];
    memcpy(w.session, h->session, SESSION_SIZE);
    welcome_encode(&w, out);
    return conn_write(&c->wire, out, sizeof(out), err);
}

static int take_hello(struct carry *c, struct hello *h, struct error *err) {
    uint8_t in[HELLO_SIZE];
    if (conn_read(&c->wire, in, sizeof(in), err) < 0) {
        return error_prefix(err, "no hello: ");
    }
    if (hello_decode(in, h) < 0) {
        return error_set(err, ERROR_PEER, "this is no 'godwit relay'");
    }
    if (h->version != PROTOCOL_VERSION) {
        welcome(c, h, WELCOME_VERSION, err);
        return error_set(err, ERROR_PEER,
                         "it speaks protocol %u and this relay %u: install the same godwit version on both hosts",
                         h->version, PROTOCOL_VERSION);
    }
    if (h->role != ROLE_RELAY) {
        welcome(c, h, WELCOME_SESSION, err);
        return error_set(err, ERROR_PEER, "it is not 'godwit relay' but another command of godwit's");
    }
    return welcome(c, h, WELCOME_OK, err);
}

/* Where to, by what the other relay says and what is allowed here. */
static int find_place(const struct relay_config *config, const char *wanted, struct address *to, struct error *err) {
    if (!config->original) {
        *to = config->to;
        return 0;
    }
    if (wanted[0] == '\0') {
        return error_set(err, ERROR_REFUSED,
                         "the source's relay does not know where its QEMU wanted to go: only --from redirect:PORT "
                         "does, so give this relay --deliver ADDRESS");
    }
    if (address_parse(wanted, to, err) < 0 || !allow_has(&config->allow, to)) {
        error_clear(err);
        return error_set(err, ERROR_REFUSED, "%s is not among the addresses that this relay may deliver to (--allow)",
                         wanted);
    }
    return 0;
}

static int connect_qemu(struct inbound *i, struct error *err) {
    const struct connect_how how = { .timeout = CONNECT_TIMEOUT,
                                     .server = "does a QEMU wait for a migration there? See -incoming, and "
                                               "migrate-incoming" };
    int fd = connect_to(&i->to, &how, err);
    if (fd < 0) {
        return error_prefix(err, "the destination's QEMU: ");
    }
    carry_set_qemu(&i->carry, fd);
    return 0;
}

static int take_open(struct inbound *i, struct error *err) {
    struct carry *c = &i->carry;
    struct packet p;
    int rc = post_take(&c->wire, &c->taken, &p, c->in_data, err);
    if (rc != 0 || p.kind != PACKET_OPEN) {
        return rc < 0 ? -1 : error_set(err, ERROR_PEER, "it did not say what it wants");
    }
    text_make_printable((char *)c->in_data);
    return find_place(i->shared->config, (const char *)c->in_data, &i->to, err);
}

/* Everything up to the moment from which bytes are carried. */
static int open_here(struct inbound *i, struct error *err) {
    struct carry *c = &i->carry;
    struct hello h;
    set_patience(c, HELLO_TIMEOUT);
    if (take_hello(c, &h, err) < 0) {
        return -1;
    }
    memcpy(i->session, h.session, SESSION_SIZE);
    if (take_open(i, err) < 0 ||
        migrations_join_session(&i->shared->migrations, h.session, h.channel, &i->member, err) < 0 ||
        connect_qemu(i, err) < 0 || post_word(&c->wire, PACKET_OPENED, &c->sent, NULL, err) < 0) {
        struct error ignored = { 0 };
        post_word(&c->wire, PACKET_ABORT, &c->sent, err->desc, &ignored);
        return -1;
    }
    migrations_opened(&i->shared->migrations, &i->member);
    atomic_store(&c->wire.patience, 0);
    return 0;
}

static void leave(struct inbound *i, const struct error *why) {
    struct migration_end end;
    if (i->member.of == NULL) {
        return;
    }
    report_closed(i->shared, &i->member, why);
    migrations_leave(&i->shared->migrations, &i->member, why, &end);
    if (end.last) {
        report_end(i->shared, i->session, &end);
    }
}

static int serve(struct inbound *i, int fd, struct error *err) {
    struct carry *c = &i->carry;
    int rc = carry_init(c, CARRY_AT_DESTINATION, err);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    conn_init(&c->wire, fd, "the relays' connection");
    i->member.carry = c;
    if (rc == 0) {
        rc = open_here(i, err);
    }
    atomic_fetch_sub(&i->shared->strangers, 1);
    if (rc < 0) {
        report_refused(i->shared, i->peer, err);
        return -1;
    }
    char text[300];
    snprintf(text, sizeof(text), "%s%s%s", i->to.host, i->to.port[0] ? " port " : "", i->to.port);
    report_opened(i->shared, &i->member, i->peer, text);
    return carry_run(c, i->shared->config->silence, err);
}

void inbound_run(struct shared *s, int fd, const char *peer) {
    struct inbound i = { .shared = s, .peer = peer };
    struct error err = { 0 };
    int rc = serve(&i, fd, &err);
    leave(&i, rc < 0 ? &err : NULL);
    carry_close(&i.carry);
}
