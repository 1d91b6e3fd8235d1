/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/origin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define ORIGINAL_DST 80 /* SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST: netfilter's own headers clash with netinet's */

static bool is_ipv6(const struct sockaddr_storage *name) {
    return name->ss_family == AF_INET6;
}

static const void *host_of(const struct sockaddr_storage *name) {
    return is_ipv6(name) ? (const void *)&((const struct sockaddr_in6 *)name)->sin6_addr
                         : (const void *)&((const struct sockaddr_in *)name)->sin_addr;
}

static unsigned port_of(const struct sockaddr_storage *name) {
    return ntohs(is_ipv6(name) ? ((const struct sockaddr_in6 *)name)->sin6_port
                               : ((const struct sockaddr_in *)name)->sin_port);
}

static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b) {
    return a->ss_family == b->ss_family && port_of(a) == port_of(b) &&
           memcmp(host_of(a), host_of(b), is_ipv6(a) ? 16 : 4) == 0;
}

/* Where a redirected connection was made to. A firewall that did nothing with it knows nothing of it, or says that it
 * was made to us, and to deliver it there would be to deliver it to ourselves. */
static int find_wanted(int fd, const struct sockaddr_storage *own, struct origin *o, struct error *err) {
    struct sockaddr_storage name = { 0 };
    socklen_t size = sizeof(name);
    char host[INET6_ADDRSTRLEN];
    if (getsockopt(fd, is_ipv6(own) ? SOL_IPV6 : SOL_IP, ORIGINAL_DST, &name, &size) < 0 || same_address(&name, own)) {
        return error_set(err, ERROR_REFUSED,
                         "a connection was made to the relay itself and not redirected here: is the firewall's rule in "
                         "place? See the man page of 'godwit relay'");
    }
    inet_ntop(name.ss_family, host_of(&name), host, sizeof(host));
    snprintf(o->wanted, sizeof(o->wanted), is_ipv6(&name) ? "tcp:[%s]:%u" : "tcp:%s:%u", host, port_of(&name));
    return 0;
}

int origin_of(int fd, bool redirected, struct origin *o, struct error *err) {
    struct sockaddr_storage own = { 0 }, peer = { 0 };
    socklen_t own_size = sizeof(own), peer_size = sizeof(peer), size = sizeof(struct ucred);
    struct ucred who = { 0 };
    char host[INET6_ADDRSTRLEN];
    *o = (struct origin){ 0 };
    if (getsockname(fd, (struct sockaddr *)&own, &own_size) < 0 ||
        getpeername(fd, (struct sockaddr *)&peer, &peer_size) < 0) {
        return error_errno(err, ERROR_LINK, "a connection was closed as soon as it was made");
    }
    if (own.ss_family == AF_UNIX) {
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size);
        snprintf(o->whose, sizeof(o->whose), "process %d", (int)who.pid);
        return 0;
    }
    if (redirected && find_wanted(fd, &own, o, err) < 0) {
        return -1;
    }
    inet_ntop(peer.ss_family, host_of(&peer), host, sizeof(host));
    int n = snprintf(o->whose, sizeof(o->whose), "%s%s%.64s", host, redirected ? " to " : "", o->wanted);
    return n > 0 ? 0 : error_set(err, ERROR_SYSTEM, "cannot name a connection");
}
