/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/hello.h"

#include "wire/bytes.h"

#include <string.h>

/* Like PNG's: a byte that is no text, so that no text protocol is taken for ours, and a line end that a careless
 * text-mode proxy would change. */
static const uint8_t magic[8] = { 0x89, 'g', 'o', 'd', 'w', 'i', '\r', '\n' };

void hello_encode(const struct hello *h, uint8_t out[HELLO_SIZE]) {
    memset(out, 0, HELLO_SIZE);
    memcpy(out, magic, sizeof(magic));
    put_u16(out + 8, h->version);
    out[10] = h->role;
    put_u16(out + 12, h->channel);
    memcpy(out + 16, h->session, SESSION_SIZE);
}

int hello_may_begin(const uint8_t *in, unsigned n) {
    return memcmp(in, magic, n < sizeof(magic) ? n : sizeof(magic)) == 0;
}

int hello_decode(const uint8_t in[HELLO_SIZE], struct hello *h) {
    if (!hello_may_begin(in, HELLO_SIZE)) {
        return -1;
    }
    *h = (struct hello){ .version = get_u16(in + 8), .role = in[10], .channel = get_u16(in + 12) };
    memcpy(h->session, in + 16, SESSION_SIZE);
    return 0;
}

void welcome_encode(const struct welcome *w, uint8_t out[WELCOME_SIZE]) {
    memset(out, 0, WELCOME_SIZE);
    memcpy(out, magic, sizeof(magic));
    put_u16(out + 8, w->version);
    out[10] = w->status;
    memcpy(out + 16, w->session, SESSION_SIZE);
}

int welcome_decode(const uint8_t in[WELCOME_SIZE], struct welcome *w) {
    if (memcmp(in, magic, sizeof(magic)) != 0) {
        return -1;
    }
    *w = (struct welcome){ .version = get_u16(in + 8), .status = in[10] };
    memcpy(w->session, in + 16, SESSION_SIZE);
    return 0;
}

void measured_encode(const struct measured *m, uint8_t out[MEASURED_SIZE]) {
    memcpy(out, magic, sizeof(magic));
    put_u64(out + 8, m->bytes);
    put_u64(out + 16, (uint64_t)m->time);
}

int measured_decode(const uint8_t in[MEASURED_SIZE], struct measured *m) {
    uint64_t bytes = get_u64(in + 8), time = get_u64(in + 16);
    if (memcmp(in, magic, sizeof(magic)) != 0 || bytes == 0 || time == 0 || time > INT64_MAX) {
        return -1;
    }
    *m = (struct measured){ bytes, (int64_t)time };
    return 0;
}

static int judge(const struct welcome *w, const struct hello *h, struct error *err) {
    switch (w->status) {
    case WELCOME_OK:
        return 0;
    case WELCOME_VERSION:
        return error_set(err, ERROR_PEER,
                         "the receiver speaks protocol %u and this godwit speaks %u: install the same godwit version "
                         "on both hosts",
                         w->version, PROTOCOL_VERSION);
    case WELCOME_BUSY:
        return error_set(err, ERROR_PEER, "the receiver is busy with another migration");
    case WELCOME_SESSION:
        if (h->role == ROLE_MEASURE) {
            return error_set(err, ERROR_PEER,
                             "the receiver does not know how to measure a link: install the same godwit version on "
                             "both hosts, or give --link");
        }
        if (h->role == ROLE_CHECK) {
            return error_set(err, ERROR_PEER,
                             "the receiver does not know how to check: install the same godwit version on both hosts");
        }
        if (h->role == ROLE_RELAY) {
            return error_set(err, ERROR_PEER, "what listens there is not 'godwit relay --listen'");
        }
        return error_set(err, ERROR_PEER, "the receiver does not know this migration");
    default:
        return error_set(err, ERROR_PEER, "the receiver answered with the unknown status %u", w->status);
    }
}

int hello_send(struct conn *c, struct hello *h, struct error *err) {
    uint8_t out[HELLO_SIZE];
    h->version = PROTOCOL_VERSION;
    hello_encode(h, out);
    return conn_write(c, out, sizeof(out), err);
}

/* What should listen, in messages. */
static const char *listener_name(const struct hello *h) {
    return h->role == ROLE_RELAY ? "godwit relay --listen" : "godwit receive";
}

int hello_receive(struct conn *c, struct hello *h, struct error *err) {
    uint8_t in[WELCOME_SIZE];
    if (conn_read(c, in, sizeof(in), err) < 0) {
        return error_prefix(err, "no welcome from the %s: ", h->role == ROLE_RELAY ? "other relay" : "receiver");
    }
    struct welcome w;
    if (welcome_decode(in, &w) < 0) {
        return error_set(err, ERROR_PEER, "what listens there is not '%s'", listener_name(h));
    }
    if (judge(&w, h, err) < 0) {
        return -1;
    }
    memcpy(h->session, w.session, SESSION_SIZE);
    return 0;
}
