/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/address.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int bad_address(const char *text, struct error *err) {
    return error_set(err, ERROR_USAGE, "'%s' is not an address: write tcp:HOST:PORT or unix:PATH", text);
}

static int parse_tcp(const char *text, const char *rest, struct address *a, struct error *err) {
    const char *host = rest, *host_end, *colon;
    if (*rest == '[') {
        host = rest + 1;
        host_end = strchr(host, ']');
        colon = host_end ? host_end + 1 : NULL;
    } else {
        host_end = colon = strrchr(rest, ':');
    }
    if (colon == NULL || *colon != ':' || colon[1] == '\0' || host_end == host ||
        (size_t)(host_end - host) >= sizeof(a->host) || strlen(colon + 1) >= sizeof(a->port)) {
        return bad_address(text, err);
    }
    a->kind = ADDRESS_TCP;
    memcpy(a->host, host, (size_t)(host_end - host));
    a->host[host_end - host] = '\0';
    snprintf(a->port, sizeof(a->port), "%s", colon + 1);
    return 0;
}

int address_parse(const char *text, struct address *a, struct error *err) {
    memset(a, 0, sizeof(*a));
    if (strncmp(text, "tcp:", 4) == 0) {
        return parse_tcp(text, text + 4, a, err);
    }
    if (strncmp(text, "unix:", 5) != 0 || text[5] == '\0') {
        return bad_address(text, err);
    }
    if (strlen(text + 5) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        return error_set(err, ERROR_USAGE, "the path of '%s' is too long for a unix socket (107 bytes at most)", text);
    }
    a->kind = ADDRESS_UNIX;
    snprintf(a->host, sizeof(a->host), "%s", text + 5);
    return 0;
}

static struct sockaddr_un unix_name(const struct address *a) {
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    memcpy(name.sun_path, a->host, strnlen(a->host, sizeof(name.sun_path) - 1));
    return name;
}

static struct addrinfo *resolve(const struct address *a, struct error *err) {
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(a->host, a->port, &hints, &list);
    if (rc != 0) {
        error_set(err, ERROR_LINK, "cannot resolve %s port %s: %s", a->host, a->port, gai_strerror(rc));
        return NULL;
    }
    return list;
}

static void set_nodelay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* fails on a unix socket, where it is not needed */
}

/* A socket file that nobody listens on any more is in the way of ours; one that answers belongs to somebody. */
static int remove_stale_socket(const struct address *a, struct error *err) {
    struct sockaddr_un name = unix_name(a);
    struct stat st;
    if (lstat(a->host, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        return 0; /* any other file is not ours to remove, though connect() refuses it in the same way: bind() will tell
                   */
    }
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (connect(fd, (const struct sockaddr *)&name, sizeof(name)) == 0 ||
        errno == EAGAIN) { /* EAGAIN: a full backlog */
        return error_set(err, ERROR_USAGE, "something listens on %s already", a->host);
    }
    if (errno == ECONNREFUSED) {
        unlink(a->host);
    }
    return 0;
}

static int try_listen(int family, const struct sockaddr *name, socklen_t length) {
    CLEANUP_CLOSE int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, name, length) < 0 || listen(fd, 64) < 0) {
        return -1;
    }
    return take_fd(&fd);
}

/* What helps against the errno of a listen that failed; "" for what needs no advice. */
static const char *listen_cure(const struct address *a, int why) {
    switch (why) {
    case EADDRINUSE:
        return "; something listens there already: take another port, or end it ('ss -ltnp' names it)";
    case EADDRNOTAVAIL:
        return "; this host does not have that address ('ip address' shows those that it has; 0.0.0.0 and [::] are "
               "all)";
    case ENOENT:
        return "; the socket's directory has to be there";
    case EACCES:
        return a->kind == ADDRESS_UNIX ? "" : "; ports below 1024 are for root";
    default:
        return "";
    }
}

int address_listen(const struct address *a, struct error *err) {
    int fd = -1;
    if (a->kind == ADDRESS_UNIX) {
        if (remove_stale_socket(a, err) < 0) {
            return -1;
        }
        struct sockaddr_un name = unix_name(a);
        fd = try_listen(AF_UNIX, (const struct sockaddr *)&name, sizeof(name));
    } else {
        struct addrinfo *list = resolve(a, err);
        if (list == NULL) {
            return -1;
        }
        fd = try_listen(list->ai_family, list->ai_addr, list->ai_addrlen);
        int saved = errno;
        freeaddrinfo(list);
        errno = saved;
    }
    if (fd < 0) {
        int why = errno;
        return error_set(err, ERROR_SYSTEM, "cannot listen on %s%s%s: %s%s", a->host, a->port[0] ? " port " : "",
                         a->port, strerror(why), listen_cure(a, why));
    }
    return fd;
}

int address_accept(int listener, char *peer, size_t peer_size) {
    struct sockaddr_storage name = { 0 };
    socklen_t length = sizeof(name);
    int fd = accept4(listener, (struct sockaddr *)&name, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return -1;
    }
    set_nodelay(fd);
    char host[128], port[16];
    if (name.ss_family != AF_UNIX && getnameinfo((struct sockaddr *)&name, length, host, sizeof(host), port,
                                                 sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        snprintf(peer, peer_size, "%s port %s", host, port);
    } else {
        snprintf(peer, peer_size, "a local client");
    }
    return fd;
}

void address_set_timeout(int fd, int64_t timeout_ns) {
    unsigned ms = (unsigned)(timeout_ns / CLOCK_MS);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}
