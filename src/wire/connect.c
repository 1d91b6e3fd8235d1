/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/connect.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "wire/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Between two attempts. */
#define PAUSE (200 * CLOCK_MS)

static int wait_for(const struct connect_how *how, int fd, int64_t timeout_ns, struct error *err) {
    if (how->wait != NULL) {
        return how->wait(how->opaque, fd, timeout_ns, err);
    }
    struct pollfd p = { .fd = fd, .events = POLLIN };
    if (poll(&p, 1, (int)(timeout_ns / CLOCK_MS) + 1) < 0 && errno != EINTR) {
        return error_errno(err, ERROR_SYSTEM, "poll");
    }
    return 0;
}

int connect_wait_for_signal(void *opaque, int fd, int64_t timeout_ns, struct error *err) {
    struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = *(const int *)opaque, .events = POLLIN } };
    if (poll(p, 2, (int)(timeout_ns / CLOCK_MS) + 1) < 0 && errno != EINTR) {
        return error_errno(err, ERROR_SYSTEM, "poll");
    }
    return p[1].revents != 0 ? error_set(err, ERROR_CANCELLED, "cancelled; the guest runs on, unchanged") : 0;
}

/* 1: `fd` is readable; 0: it is not, in all that time. */
static int await_readable(const struct connect_how *how, int fd, int64_t timeout_ns, struct error *err) {
    int64_t deadline = clock_now() + timeout_ns, left;
    struct pollfd p = { .fd = fd, .events = POLLIN };
    int n;
    while ((n = poll(&p, 1, 0)) == 0 && (left = deadline - clock_now()) > 0) {
        if (wait_for(how, fd, left, err) < 0) {
            return -1;
        }
    }
    return n > 0;
}

/* One attempt at one address: how it went, as an errno. What it is tried again for is not an error yet. */
struct attempt {
    int fd;      /* connected; -1 */
    int failure; /* errno */
};

/* A descriptor that is readable when `fd` is writable: who waits needs to know of readable ones only. */
static int writable_as_readable(int fd) {
    struct epoll_event e = { .events = EPOLLOUT };
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, fd, &e) < 0) {
        close(set);
        set = -1;
    }
    return set;
}

/* -1 with `err`: who waits wants no more of it, or this host has no means. Else 0, and the attempt's errno. */
static int connect_fd(int fd, const struct sockaddr *name, socklen_t length, const struct connect_how *how,
                      int *failure, struct error *err) {
    *failure = 0;
    if (connect(fd, name, length) == 0) {
        return 0;
    }
    *failure = errno;
    if (errno != EINPROGRESS) {
        return 0;
    }
    CLEANUP_CLOSE int writable = writable_as_readable(fd);
    if (writable < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot wait for a connection");
    }
    int n = await_readable(how, writable, how->timeout, err);
    if (n <= 0) {
        *failure = ETIMEDOUT;
        return n;
    }
    socklen_t size = sizeof(*failure);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, failure, &size);
    return 0;
}

static int try_one(int family, const struct sockaddr *name, socklen_t length, const struct connect_how *how,
                   struct attempt *a, struct error *err) {
    CLEANUP_CLOSE int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 && errno != EAFNOSUPPORT) {
        return error_errno(err, ERROR_SYSTEM, "cannot make a socket");
    }
    if (fd < 0) {
        a->failure = errno;
        return 0;
    }
    if (connect_fd(fd, name, length, how, &a->failure, err) < 0) {
        return -1;
    }
    if (a->failure == 0) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* fails on a unix socket, which needs it not */
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
        a->fd = take_fd(&fd);
    }
    return 0;
}

static int try_unix(const struct address *to, const struct connect_how *how, struct attempt *a, struct error *err) {
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    memcpy(name.sun_path, to->host, strnlen(to->host, sizeof(name.sun_path) - 1));
    return try_one(AF_UNIX, (const struct sockaddr *)&name, sizeof(name), how, a, err);
}

/* Waits for the name's addresses; *result is getaddrinfo()'s. */
static int await_name(const struct address *to, struct resolve *r, const struct connect_how *how, int *result,
                      const struct addrinfo **list, struct error *err) {
    int n = await_readable(how, resolve_poll_fd(r), how->timeout, err);
    if (n < 0) {
        return -1;
    }
    if (n == 0) {
        return error_set(err, ERROR_LINK,
                         "cannot resolve %s: no answer within %lld s. Does this host's name service work? A numeric "
                         "address needs none",
                         to->host, (long long)(how->timeout / CLOCK_S));
    }
    *result = resolve_result(r, list);
    return 0;
}

static const char *cause_of(const struct connect_how *how, int failure) {
    switch (failure) {
    case ETIMEDOUT:
        return "does a firewall drop what is for that port, or is the host down?";
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
        return "is the host up, and is there a route to it?";
    case EACCES:
    case EPERM:
        return "does a firewall of this host forbid it, or are the rights of the socket file missing?";
    default:
        return how->server != NULL ? how->server : "is 'godwit receive' running there?";
    }
}

/* Whether it may be otherwise in a moment. */
static bool may_change(int failure) {
    static const int errors[] = { ECONNREFUSED, ENOENT,     ETIMEDOUT, EHOSTUNREACH, ENETUNREACH,
                                  EHOSTDOWN,    ECONNRESET, ENETDOWN,  EAGAIN };
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        if (errors[i] == failure) {
            return true;
        }
    }
    return false;
}

/* All addresses of the name, in the resolver's order. *again: it failed, and may be otherwise in a moment. */
static int try_name(const struct address *to, const struct connect_how *how, struct attempt *a, bool *again,
                    struct error *err) {
    struct resolve *r = resolve_begin(to, err);
    const struct addrinfo *list = NULL;
    int result = 0, rc = r != NULL ? await_name(to, r, how, &result, &list, err) : -1;
    if (rc == 0 && result != 0) {
        *again = result == EAI_AGAIN;
        rc = error_set(err, ERROR_LINK, "cannot resolve %s port %s: %s%s", to->host, to->port, gai_strerror(result),
                       result == EAI_NONAME ? ". Is the name spelled right, and does this host know it?" : "");
    }
    for (const struct addrinfo *i = list; rc == 0 && i != NULL && a->fd < 0; i = i->ai_next) {
        rc = try_one(i->ai_family, i->ai_addr, i->ai_addrlen, how, a, err);
    }
    resolve_end(r);
    return rc;
}

/* Once. A failure has its text in `err` and says in *again whether to try once more. */
static int try_once(const struct address *to, const struct connect_how *how, bool *again, struct error *err) {
    struct attempt a = { .fd = -1 };
    *again = false;
    int rc = to->kind == ADDRESS_UNIX ? try_unix(to, how, &a, err) : try_name(to, how, &a, again, err);
    if (rc < 0 || a.fd >= 0) {
        return rc < 0 ? -1 : a.fd;
    }
    *again = may_change(a.failure);
    return error_set(err, ERROR_LINK, "cannot connect to %s%s%s: %s (%s)", to->host, to->port[0] ? " port " : "",
                     to->port, strerror(a.failure), cause_of(how, a.failure));
}

/* Waits out a pause; readable is nothing here. */
static int pause_between(const struct connect_how *how, int64_t until, struct error *err) {
    int64_t end = clock_now() + PAUSE, left;
    end = end < until ? end : until;
    while ((left = end - clock_now()) > 0) {
        if (wait_for(how, -1, left, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int connect_to(const struct address *to, const struct connect_how *how, struct error *err) {
    bool again, told = false;
    int fd;
    int64_t begin = clock_now();
    while ((fd = try_once(to, how, &again, err)) < 0 && again && clock_now() < how->retry_until) {
        if (!told && how->waiting != NULL) {
            how->waiting(how->opaque, err);
        }
        told = true;
        error_clear(err);
        if (pause_between(how, how->retry_until, err) < 0) {
            return -1;
        }
    }
    if (fd < 0 && again && told) {
        error_prefix(err, "tried for %.0f s: ", (double)(clock_now() - begin) / 1e9);
    }
    return fd;
}

int connect_peer(int fd, const struct address *asked, struct address *peer, struct error *err) {
    *peer = *asked;
    if (asked->kind == ADDRESS_UNIX) {
        return 0;
    }
    struct sockaddr_storage name = { 0 };
    socklen_t length = sizeof(name);
    if (getpeername(fd, (struct sockaddr *)&name, &length) < 0) {
        return error_errno(err, ERROR_LINK, "the connection to the other godwit broke");
    }
    int rc = getnameinfo((struct sockaddr *)&name, length, peer->host, sizeof(peer->host), peer->port,
                         sizeof(peer->port), NI_NUMERICHOST | NI_NUMERICSERV);
    return rc == 0 ? 0 : error_set(err, ERROR_SYSTEM, "cannot tell the peer's address: %s", gai_strerror(rc));
}
