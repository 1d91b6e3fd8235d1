/* SPDX-License-Identifier: Apache-2.0 */
/* The first bytes of a connection, as the one who listens and as the one who connects reads them. */
#include "fuzz.h"
#include "wire/hello.h"

#include <sys/socket.h>
#include <unistd.h>

static void as_listener(const uint8_t *data, size_t size) {
    struct hello h, again;
    uint8_t bytes[HELLO_SIZE];
    unsigned n = (unsigned)(size < HELLO_SIZE ? size : HELLO_SIZE);
    uint8_t *exact = copy_of(data, n);
    int may = hello_may_begin(exact, n);
    for (unsigned i = 0; may && i < n; i++) {
        MUST(hello_may_begin(exact, i)); /* what may begin may do so from the first byte on */
    }
    if (n == HELLO_SIZE && hello_decode(exact, &h) == 0) {
        MUST(may);
        hello_encode(&h, bytes);
        MUST(hello_decode(bytes, &again) == 0);
        MUST(memcmp(again.session, h.session, SESSION_SIZE) == 0 && again.role == h.role &&
             again.version == h.version && again.channel == h.channel);
    }
    free(exact);
}

static void as_caller(const uint8_t *data, size_t size) {
    int ends[2];
    struct error err = { 0 };
    struct hello h = { .role = ROLE_CONTROL };
    struct conn c;
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    size_t n = size < 4096 ? size : 4096;
    MUST(send(ends[0], data, n, MSG_DONTWAIT) == (ssize_t)n);
    shutdown(ends[0], SHUT_WR);
    conn_init(&c, ends[1], "control");
    int rc = hello_send(&c, &h, &err) < 0 ? -1 : hello_receive(&c, &h, &err);
    MUST((rc == 0) == !error_is_set(&err));
    MUST(rc < 0 || n >= WELCOME_SIZE);
    conn_close(&c);
    close(ends[0]);
}

static void as_one_who_measures(const uint8_t *data, size_t size) {
    struct measured m;
    uint8_t bytes[MEASURED_SIZE];
    if (size < MEASURED_SIZE) {
        return;
    }
    uint8_t *exact = copy_of(data, MEASURED_SIZE);
    if (measured_decode(exact, &m) == 0) {
        MUST(m.bytes > 0 && m.time > 0);
        measured_encode(&m, bytes);
        MUST(memcmp(bytes, exact, MEASURED_SIZE) == 0);
    }
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    as_listener(data, size);
    as_caller(data, size);
    as_one_who_measures(data, size);
    return 0;
}
