/* SPDX-License-Identifier: Apache-2.0 */
#include "predict/rate.h"

#include "base/clock.h"
#include "wire/conn.h"
#include "wire/connect.h"
#include "wire/hello.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define CONNECT_TIMEOUT (10 * CLOCK_S)
#define PATIENCE (15 * CLOCK_S) /* from the hello to the receiver's word */
#define PIECE (256u << 10)
/* bytes/s: what --link may be, too */
#define LEAST_RATE 1.25e4
#define MOST_RATE 1.25e12

static int await(const struct conn *c, int signal_fd, short events, int64_t deadline, struct error *err) {
    struct pollfd p[2] = { { .fd = c->fd, .events = events }, { .fd = signal_fd, .events = POLLIN } };
    int64_t left = deadline - clock_now();
    if (left <= 0) {
        return error_set(err, ERROR_LINK, "what listens there does not answer: is it 'godwit receive'?");
    }
    if (poll(p, 2, (int)(left / CLOCK_MS) + 1) < 0 && errno != EINTR) {
        return error_errno(err, ERROR_SYSTEM, "poll");
    }
    if (p[1].revents != 0) {
        return error_set(err, ERROR_CANCELLED, "cancelled; the guest runs on, unchanged");
    }
    return p[0].revents;
}

/* Fills the link until the receiver says how much came. */
static int fill(struct conn *c, int signal_fd, int64_t deadline, struct error *err) {
    static const uint8_t filler[PIECE]; /* nothing between two hosts of one operator compresses it */
    int events;
    while (((events = await(c, signal_fd, POLLIN | POLLOUT, deadline, err)) & POLLIN) == 0) {
        if (events < 0) {
            return -1;
        }
        if (events > 0 && send(c->fd, filler, sizeof(filler), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN &&
            errno != EINTR) {
            /* It may have said its word and closed before we had said ours. */
            return errno == EPIPE || errno == ECONNRESET ? 0 : error_errno(err, ERROR_LINK, "the measuring broke");
        }
    }
    return events < 0 ? -1 : 0;
}

static int take_result(struct conn *c, struct rate *rate, struct error *err) {
    uint8_t in[MEASURED_SIZE];
    struct measured m;
    if (conn_read(c, in, sizeof(in), err) < 0) {
        return error_prefix(err, "the receiver did not say what it measured: ");
    }
    double bytes = measured_decode(in, &m) < 0 ? 0 : measured_rate(&m);
    if (!(bytes >= LEAST_RATE && bytes <= MOST_RATE)) {
        return error_set(err, ERROR_PEER, "the receiver measured nothing: is another migration under way there?");
    }
    rate->bytes = bytes;
    rate->round_trip = conn_round_trip(c, 0);
    return 0;
}

static int talk(struct conn *c, int signal_fd, struct rate *rate, struct error *err) {
    int64_t deadline = clock_now() + PATIENCE;
    struct hello hello = { .role = ROLE_MEASURE };
    if (hello_send(c, &hello, err) < 0) {
        return -1;
    }
    int events = await(c, signal_fd, POLLIN, deadline, err);
    while (events == 0) {
        events = await(c, signal_fd, POLLIN, deadline, err);
    }
    if (events < 0) {
        return -1;
    }
    if (hello_receive(c, &hello, err) < 0) {
        return -1;
    }
    return fill(c, signal_fd, deadline, err) < 0 ? -1 : take_result(c, rate, err);
}

int rate_measure(const struct address *to, int signal_fd, struct rate *rate, struct error *err) {
    struct conn c;
    struct connect_how how = { .timeout = CONNECT_TIMEOUT, .wait = connect_wait_for_signal, .opaque = &signal_fd };
    int fd = connect_to(to, &how, err);
    if (fd < 0) {
        return -1;
    }
    conn_init(&c, fd, "the measuring connection");
    atomic_store(&c.patience, PATIENCE);
    struct timeval patience = { .tv_sec = PATIENCE / CLOCK_S };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    int rc = talk(&c, signal_fd, rate, err);
    /* What the socket still has of the filler is for nobody: it would keep the link and the receiver busy. */
    struct linger now = { .l_onoff = 1 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    conn_close(&c);
    return rc;
}
