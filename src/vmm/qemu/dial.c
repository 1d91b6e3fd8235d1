/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/dial.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG_RETRY (20 * CLOCK_MS)

/* connect() to a unix socket does not wait when the socket is non-blocking: EAGAIN says that the backlog is full. */
static int connect_until(int fd, const struct sockaddr_un *address, int64_t deadline, struct error *err) {
    for (;;) {
        if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0) {
            return 0;
        }
        if (errno != EAGAIN && errno != EINTR) {
            return error_errno(err, ERROR_VMM, "cannot connect to the QMP socket %s", address->sun_path);
        }
        if (clock_now() >= deadline) {
            return error_set(err, ERROR_VMM,
                             "%s: another client (libvirt?) holds the monitor: give godwit one of its own",
                             address->sun_path);
        }
        clock_sleep(BACKLOG_RETRY);
    }
}

static int dial_unix(const char *path, int64_t deadline, struct error *err) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(address.sun_path)) {
        return error_set(err, ERROR_USAGE, "the path of a unix socket has at most %zu bytes: %s",
                         sizeof(address.sun_path) - 1, path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return error_errno(err, ERROR_SYSTEM, "socket");
    }
    return connect_until(fd, &address, deadline, err) < 0 ? -1 : take_fd(&fd);
}

/* Splits HOST:PORT or [HOST]:PORT in place. */
static int split(char *text, char **host, char **port, const char *where, struct error *err) {
    char *colon = strrchr(text, ':');
    size_t length = colon != NULL ? (size_t)(colon - text) : 0;
    if (length == 0 || colon[1] == '\0') {
        return error_set(err, ERROR_USAGE, "a QMP monitor is PATH, unix:PATH or tcp:HOST:PORT, not \"%s\"", where);
    }
    *colon = '\0';
    *host = text;
    *port = colon + 1;
    if (text[0] == '[' && text[length - 1] == ']') {
        text[length - 1] = '\0';
        ++*host;
    }
    return 0;
}

/* One address; a non-blocking connect that is waited for. */
static int try_address(const struct addrinfo *a, int64_t deadline) {
    CLEANUP_CLOSE int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (fd < 0) {
        return -1;
    }
    if (connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
        struct pollfd p = { .fd = fd, .events = POLLOUT };
        int64_t left = (deadline - clock_now()) / CLOCK_MS;
        socklen_t size = sizeof(errno);
        if (errno != EINPROGRESS) {
            return -1;
        }
        if (poll(&p, 1, left > 0 ? (int)left : 0) <= 0) {
            errno = ETIMEDOUT;
            return -1;
        }
        int failure = 0;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) < 0 || failure != 0) {
            errno = failure;
            return -1;
        }
    }
    return take_fd(&fd);
}

static int dial_tcp(const char *where, const char *address, int64_t deadline, struct error *err) {
    CLEANUP_FREE char *text = strdup(address);
    char *host, *port;
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;
    if (text == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory");
    }
    if (split(text, &host, &port, where, err) < 0) {
        return -1;
    }
    int rc = getaddrinfo(host, port, &hints, &list);
    if (rc != 0) {
        return error_set(err, ERROR_VMM, "cannot find the QMP monitor %s: %s", where, gai_strerror(rc));
    }
    int fd = -1, failure = 0;
    for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
        fd = try_address(a, deadline);
        failure = errno;
    }
    freeaddrinfo(list);
    errno = failure;
    return fd >= 0 ? fd : error_errno(err, ERROR_VMM, "cannot connect to the QMP monitor %s", where);
}

int dial(const char *where, int64_t deadline, struct error *err) {
    if (strncmp(where, "tcp:", 4) == 0) {
        return dial_tcp(where, where + 4, deadline, err);
    }
    return dial_unix(strncmp(where, "unix:", 5) == 0 ? where + 5 : where, deadline, err);
}
