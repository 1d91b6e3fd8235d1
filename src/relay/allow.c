/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/allow.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static int bad(const char *text, struct error *err) {
    return error_set(err, ERROR_USAGE,
                     "--allow %s: not HOST[/BITS]:PORT[-PORT] in numbers; for example 192.0.2.7:49152-49215, or "
                     "[2001:db8::7]:49152-49215",
                     text);
}

/* IPv4 by another name: a list of IPv6 hosts would let it through. */
static bool is_disguised(int family, const uint8_t *host) {
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    return family == AF_INET6 && memcmp(host, mapped, sizeof(mapped)) == 0;
}

/* The host's text of `length` bytes, which may end with /BITS. */
static bool parse_host(const char *text, size_t length, struct allowed *a) {
    char host[64];
    uint64_t bits;
    if (length == 0 || length >= sizeof(host)) {
        return false;
    }
    memcpy(host, text, length);
    host[length] = '\0';
    char *slash = strchr(host, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    size_t n = strlen(host);
    bool six = host[0] == '[' && n > 2 && host[n - 1] == ']';
    if (six) {
        host[n - 1] = '\0';
    }
    a->family = six ? AF_INET6 : AF_INET;
    a->bits = six ? 128 : 32;
    if (inet_pton(a->family, six ? host + 1 : host, a->host) != 1 || is_disguised(a->family, a->host)) {
        return false;
    }
    if (slash != NULL) {
        const char *rest = slash + 1;
        if (!text_number(&rest, &bits) || *rest != '\0' || bits > a->bits) {
            return false;
        }
        a->bits = (unsigned)bits;
    }
    return true;
}

static bool parse_port(const char **text, uint16_t *port) {
    uint64_t number;
    if (!text_number(text, &number) || number < 1 || number > UINT16_MAX) {
        return false;
    }
    *port = (uint16_t)number;
    return true;
}

static bool parse_ports(const char *text, struct allowed *a) {
    if (!parse_port(&text, &a->first)) {
        return false;
    }
    a->last = a->first;
    if (*text == '-') {
        text++;
        if (!parse_port(&text, &a->last)) {
            return false;
        }
    }
    return *text == '\0' && a->first <= a->last;
}

int allow_add(struct allow *a, const char *text, struct error *err) {
    struct allowed one = { 0 };
    const char *rest = strncmp(text, "tcp:", 4) == 0 ? text + 4 : text, *colon = strrchr(rest, ':');
    if (colon == NULL || !parse_host(rest, (size_t)(colon - rest), &one) || !parse_ports(colon + 1, &one)) {
        return bad(text, err);
    }
    if (a->count == ALLOW_MOST) {
        return error_set(err, ERROR_USAGE, "--allow can be given %d times: use ranges of ports, or /BITS", ALLOW_MOST);
    }
    a->list[a->count++] = one;
    return 0;
}

static bool same_host(const struct allowed *a, const uint8_t *host) {
    for (unsigned bit = 0; bit < a->bits; bit++) {
        if (((a->host[bit / 8] ^ host[bit / 8]) & 0x80u >> bit % 8) != 0) {
            return false;
        }
    }
    return true;
}

bool allow_has(const struct allow *a, const struct address *where) {
    uint8_t host[16];
    uint16_t port;
    int family = strchr(where->host, ':') != NULL ? AF_INET6 : AF_INET;
    const char *text = where->port;
    if (where->kind != ADDRESS_TCP || inet_pton(family, where->host, host) != 1 || is_disguised(family, host) ||
        !parse_port(&text, &port) || *text != '\0') {
        return false;
    }
    for (size_t i = 0; i < a->count; i++) {
        const struct allowed *one = &a->list[i];
        if (one->family == family && port >= one->first && port <= one->last && same_host(one, host)) {
            return true;
        }
    }
    return false;
}
