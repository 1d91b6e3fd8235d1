/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/conn.h"

#include "base/clock.h"
#include "base/limit.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* netinet/tcp.h knows no tcpi_min_rtt */
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

void conn_init(struct conn *c, int fd, const char *name) {
    *c = (struct conn){ .fd = fd, .name = name };
}

void conn_close(struct conn *c) {
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
}

void conn_break(struct conn *c) {
    if (c->fd >= 0) {
        shutdown(c->fd, SHUT_RDWR);
    }
}

static int broken(const struct conn *c, struct error *err) {
    if (errno == EAGAIN) {
        return error_set(err, ERROR_LINK, "%s: the other godwit said nothing for too long", c->name);
    }
    return error_errno(err, ERROR_LINK, "%s: the connection to the other godwit broke", c->name);
}

static int ended(const struct conn *c, struct error *err) {
    return error_set(err, ERROR_LINK, "%s: the other godwit closed the connection", c->name);
}

/* Steps `iov` over `n` bytes that were written; returns how many pieces are finished. */
static int advance(struct iovec *iov, int count, size_t n) {
    int done = 0;
    while (done < count && n >= iov[done].iov_len) {
        n -= iov[done].iov_len;
        done++;
    }
    if (done < count) {
        iov[done].iov_base = (char *)iov[done].iov_base + n;
        iov[done].iov_len -= n;
    }
    return done;
}

static void note_blocked(struct conn *c, int64_t ns) {
    atomic_fetch_add_explicit(&c->blocked, ns, memory_order_relaxed);
}

/* Sends what the connection takes at once; when that is nothing, waits, and notes for how long. CPU time is no wait. */
static ssize_t send_some(struct conn *c, const struct msghdr *msg) {
    ssize_t n = sendmsg(c->fd, msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0 || errno != EAGAIN) {
        return n;
    }
    int64_t begin = clock_now(), cpu = clock_thread_cpu();
    n = sendmsg(c->fd, msg, MSG_NOSIGNAL);
    int saved = errno;
    note_blocked(c, (clock_now() - begin) - (clock_thread_cpu() - cpu));
    errno = saved;
    return n;
}

static void wait_for_limit(struct conn *c, const struct iovec *iov, int count) {
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        total += iov[i].iov_len;
    }
    int64_t begin = clock_now();
    limit_wait(c->limit, total);
    note_blocked(c, clock_now() - begin);
}

int conn_writev(struct conn *c, struct iovec *iov, int count, struct error *err) {
    if (c->limit != NULL) {
        wait_for_limit(c, iov, count);
    }
    while (count > 0) {
        struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)(count < IOV_MAX ? count : IOV_MAX) };
        ssize_t n = send_some(c, &msg);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return broken(c, err);
        }
        atomic_fetch_add_explicit(&c->sent, (uint64_t)n, memory_order_relaxed);
        int done = advance(iov, count, (size_t)n);
        iov += done;
        count -= done;
    }
    return 0;
}

uint64_t conn_queued(const struct conn *c) {
    int bytes = 0;
    return c->fd >= 0 && ioctl(c->fd, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? (uint64_t)bytes : 0;
}

int64_t conn_round_trip(const struct conn *c, int64_t otherwise) {
    struct tcp_info info;
    socklen_t size = sizeof(info);
    bool known = c->fd >= 0 && getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
                 size >= offsetof(struct tcp_info, tcpi_min_rtt) + sizeof(info.tcpi_min_rtt) && info.tcpi_min_rtt > 0 &&
                 info.tcpi_min_rtt < UINT32_MAX;
    return known ? (int64_t)info.tcpi_min_rtt * 1000 : otherwise;
}

int conn_write(struct conn *c, const void *data, size_t size, struct error *err) {
    struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = size };
    return conn_writev(c, &iov, 1, err);
}

int conn_read_or_end(struct conn *c, void *data, size_t size, struct error *err) {
    size_t have = 0;
    int64_t begin = clock_now();
    while (have < size) {
        int64_t patience = atomic_load_explicit(&c->patience, memory_order_relaxed);
        if (have > 0 && patience != 0 && clock_now() - begin > patience) {
            return error_set(err, ERROR_LINK, "%s: the other godwit said nothing whole for too long", c->name);
        }
        ssize_t n = recv(c->fd, (char *)data + have, size - have, MSG_WAITALL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return broken(c, err);
        }
        if (n == 0) {
            return have == 0 ? 1 : ended(c, err);
        }
        have += (size_t)n;
        atomic_fetch_add_explicit(&c->received, (uint64_t)n, memory_order_relaxed);
    }
    return 0;
}

int conn_read(struct conn *c, void *data, size_t size, struct error *err) {
    int rc = conn_read_or_end(c, data, size, err);
    return rc == 1 ? ended(c, err) : rc;
}
