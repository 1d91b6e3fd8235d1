/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/origin.h"

#include "base/clock.h"
#include "wire/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define ORIGINAL_DST 80 /* SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST: netfilter's own headers clash with netinet's */

/* One end of a connection. */
struct end {
    int family;
    uint8_t host[16];
    size_t host_size; /* bytes of it that count */
    unsigned port;
};

static struct end end_of(const struct sockaddr_storage *name) {
    struct end e = { .family = name->ss_family };
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    if (e.family == AF_INET) {
        memcpy(&four, name, sizeof(four));
        memcpy(e.host, &four.sin_addr, e.host_size = sizeof(four.sin_addr));
        e.port = ntohs(four.sin_port);
    } else if (e.family == AF_INET6) {
        memcpy(&six, name, sizeof(six));
        memcpy(e.host, &six.sin6_addr, e.host_size = sizeof(six.sin6_addr));
        e.port = ntohs(six.sin6_port);
    }
    return e;
}

static bool same_end(const struct end *a, const struct end *b) {
    return a->family == b->family && a->port == b->port && memcmp(a->host, b->host, a->host_size) == 0;
}

/* Where a redirected connection was made to. A firewall that did nothing with it knows nothing of it, or says that it
 * was made to us, and to deliver it there would be to deliver it to ourselves. */
static int find_wanted(int fd, const struct end *own, struct origin *o, struct error *err) {
    struct sockaddr_storage name = { 0 };
    socklen_t size = sizeof(name);
    char host[INET6_ADDRSTRLEN];
    bool six = own->family == AF_INET6;
    int rc = getsockopt(fd, six ? SOL_IPV6 : SOL_IP, ORIGINAL_DST, &name, &size);
    struct end wanted = end_of(&name);
    if (rc < 0 || same_end(&wanted, own) || inet_ntop(wanted.family, wanted.host, host, sizeof(host)) == NULL) {
        return error_set(err, ERROR_REFUSED,
                         "a connection was made to the relay itself and not redirected here: is the firewall's rule in "
                         "place? See the man page of 'godwit relay'");
    }
    snprintf(o->wanted, sizeof(o->wanted), wanted.family == AF_INET6 ? "tcp:[%s]:%u" : "tcp:%s:%u", host, wanted.port);
    return 0;
}

int origin_of(int fd, bool redirected, struct origin *o, struct error *err) {
    struct sockaddr_storage own = { 0 }, peer = { 0 };
    socklen_t own_size = sizeof(own), peer_size = sizeof(peer), size = sizeof(struct ucred);
    struct ucred who = { 0 };
    char host[INET6_ADDRSTRLEN] = "?";
    *o = (struct origin){ 0 };
    if (getsockname(fd, (struct sockaddr *)&own, &own_size) < 0 ||
        getpeername(fd, (struct sockaddr *)&peer, &peer_size) < 0) {
        return error_errno(err, ERROR_LINK, "a connection was closed as soon as it was made");
    }
    struct end here = end_of(&own), there = end_of(&peer);
    if (here.family == AF_UNIX) {
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size);
        snprintf(o->whose, sizeof(o->whose), "process %d", (int)who.pid);
        return 0;
    }
    if (redirected && find_wanted(fd, &here, o, err) < 0) {
        return -1;
    }
    inet_ntop(there.family, there.host, host, sizeof(host));
    snprintf(o->whose, sizeof(o->whose), "%s%s%.64s", host, redirected ? " to " : "", o->wanted);
    return 0;
}

static bool is_there(const struct address *wanted, const struct addrinfo *i) {
    char host[NI_MAXHOST], port[NI_MAXSERV];
    return getnameinfo(i->ai_addr, i->ai_addrlen, host, sizeof(host), port, sizeof(port),
                       NI_NUMERICHOST | NI_NUMERICSERV) == 0 &&
           strcmp(host, wanted->host) == 0 && strcmp(port, wanted->port) == 0;
}

bool origin_wanted(const struct origin *o, const struct address *at, int64_t timeout) {
    struct error ignored = { 0 };
    struct address wanted;
    const struct addrinfo *list = NULL;
    if (at->kind != ADDRESS_TCP || o->wanted[0] == '\0' || address_parse(o->wanted, &wanted, &ignored) < 0) {
        return false;
    }
    struct resolve *r = resolve_begin(at, &ignored);
    struct pollfd p = { .fd = r != NULL ? resolve_poll_fd(r) : -1, .events = POLLIN };
    bool found = false;
    if (r != NULL && poll(&p, 1, (int)(timeout / CLOCK_MS)) > 0 && resolve_result(r, &list) == 0) {
        for (const struct addrinfo *i = list; i != NULL && !found; i = i->ai_next) {
            found = is_there(&wanted, i);
        }
    }
    resolve_end(r);
    return found;
}
