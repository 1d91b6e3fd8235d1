/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"
#include "wire/connect.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void parse(const char *text, int kind, const char *host, const char *port) {
    struct address a;
    struct error err = { 0 };
    assert_ok(address_parse(text, &a, &err) == 0, &err);
    assert_int_equal(a.kind, kind);
    assert_string_equal(a.host, host);
    assert_string_equal(a.port, port);
}

static void refuse(const char *text) {
    struct address a;
    struct error err = { 0 };
    assert_refused(address_parse(text, &a, &err), &err, ERROR_USAGE, NULL);
}

static void addresses(void **state) {
    (void)state;
    parse("tcp:hostb:4914", ADDRESS_TCP, "hostb", "4914");
    parse("tcp:0.0.0.0:1", ADDRESS_TCP, "0.0.0.0", "1");
    parse("tcp:[::1]:4914", ADDRESS_TCP, "::1", "4914");
    parse("tcp:[fe80::1%eth0]:4914", ADDRESS_TCP, "fe80::1%eth0", "4914");
    parse("tcp:::1:4914", ADDRESS_TCP, "::1", "4914");
    parse("tcp:host:godwit", ADDRESS_TCP, "host", "godwit");
    parse("unix:/run/a.sock", ADDRESS_UNIX, "/run/a.sock", "");
    parse("unix:relative:with:colons", ADDRESS_UNIX, "relative:with:colons", "");
}

static void no_addresses(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",          "tcp",         "tcp:",          "tcp::",      "tcp:host",      "tcp:host:",
        "tcp::4914", "tcp:[]:4914", "tcp:[::1]",     "tcp:[::1]:", "tcp:[::1]4914", "tcp:[::1:4914",
        "tcp:[",     "unix:",       "TCP:host:4914", "host:4914",  "/run/x",        "udp:host:1",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        refuse(texts[i]);
    }
}

/* Builds BEFORE, `length` times 'x', AFTER. */
static const char *long_text(const char *before, size_t length, const char *after) {
    static char text[1024];
    size_t at = strlen(before);
    memcpy(text, before, at);
    memset(text + at, 'x', length);
    snprintf(text + at + length, sizeof(text) - at - length, "%s", after);
    return text;
}

static void lengths(void **state) {
    (void)state;
    struct address a;
    struct error err = { 0 };
    assert_ok(address_parse(long_text("tcp:", 255, ":1"), &a, &err) == 0, &err);
    assert_int_equal(strlen(a.host), 255);
    refuse(long_text("tcp:", 256, ":1"));
    refuse(long_text("tcp:[", 256, "]:1"));
    assert_ok(address_parse(long_text("tcp:h:", 15, ""), &a, &err) == 0, &err);
    assert_int_equal(strlen(a.port), 15);
    refuse(long_text("tcp:h:", 16, ""));
    assert_ok(address_parse(long_text("unix:", 107, ""), &a, &err) == 0, &err);
    assert_int_equal(strlen(a.host), 107);
    assert_refused(address_parse(long_text("unix:", 108, ""), &a, &err), &err, ERROR_USAGE, "107 bytes");
}

static int connect_within(const struct address *a, int64_t timeout_ns, struct error *err) {
    struct connect_how how = { .timeout = timeout_ns };
    return connect_to(a, &how, err);
}

static int accept_one(int listener, char *peer, size_t size) {
    struct pollfd p = { .fd = listener, .events = POLLIN };
    assert_int_equal(poll(&p, 1, 40000), 1);
    return address_accept(listener, peer, size);
}

static void exchange(int a, int b) {
    char text[3] = "";
    assert_int_equal(write(a, "hi", 2), 2);
    struct pollfd p = { .fd = b, .events = POLLIN };
    assert_int_equal(poll(&p, 1, 40000), 1);
    assert_int_equal(read(b, text, 2), 2);
    assert_string_equal(text, "hi");
}

/* Connects to `to`, which `listener` serves, and talks both ways. */
static void talk(int listener, const struct address *to, const char *peer_has) {
    struct error err = { 0 };
    char peer[160];
    assert_int_equal(address_accept(listener, peer, sizeof(peer)), -1); /* nobody there: it does not wait */
    int client = connect_within(to, 10 * CLOCK_S, &err);
    assert_ok(client >= 0, &err);
    int server = accept_one(listener, peer, sizeof(peer));
    assert_true(server >= 0);
    assert_non_null(strstr(peer, peer_has));
    assert_int_equal(fcntl(client, F_GETFL) & O_NONBLOCK, 0);
    assert_int_not_equal(fcntl(server, F_GETFL) & O_NONBLOCK, 0);
    assert_int_not_equal(fcntl(client, F_GETFD) & FD_CLOEXEC, 0);
    assert_int_not_equal(fcntl(server, F_GETFD) & FD_CLOEXEC, 0);
    exchange(client, server);
    exchange(server, client);
    close(client);
    close(server);
}

/* Listens on a port that the kernel chooses and tells it; -1 when the host has no such network. */
static int listen_tcp(const char *host, struct address *a) {
    struct error err = { 0 };
    char text[64];
    snprintf(text, sizeof(text), "tcp:%s:0", host);
    assert_ok(address_parse(text, a, &err) == 0, &err);
    int listener = address_listen(a, &err);
    if (listener < 0) {
        return -1;
    }
    struct sockaddr_in6 name = { 0 }; /* the port is at the same place in both families */
    socklen_t length = sizeof(name);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&name, &length), 0);
    snprintf(a->port, sizeof(a->port), "%u", ntohs(name.sin6_port));
    return listener;
}

static void tcp(void **state) {
    (void)state;
    struct address a;
    int listener = listen_tcp("127.0.0.1", &a);
    assert_true(listener >= 0);
    talk(listener, &a, "127.0.0.1 port ");
    close(listener);
    struct error err = { 0 };
    assert_refused(connect_within(&a, CLOCK_S, &err), &err, ERROR_LINK, "is 'godwit receive' running there?");
}

static void tcp6(void **state) {
    (void)state;
    struct address a;
    int listener = listen_tcp("[::1]", &a);
    if (listener < 0) {
        SKIP("this host has no IPv6");
    }
    talk(listener, &a, "::1 port ");
    close(listener);
}

static void tcp_connections_do_not_wait_for_more(void **state) {
    (void)state;
    struct address a;
    struct error err = { 0 };
    int listener = listen_tcp("127.0.0.1", &a);
    int client = connect_within(&a, 10 * CLOCK_S, &err), nodelay = 0;
    assert_ok(client >= 0, &err);
    socklen_t size = sizeof(nodelay);
    assert_int_equal(getsockopt(client, IPPROTO_TCP, TCP_NODELAY, &nodelay, &size), 0);
    assert_int_not_equal(nodelay, 0);
    address_set_timeout(client, 7 * CLOCK_S);
    unsigned ms = 0;
    size = sizeof(ms);
    assert_int_equal(getsockopt(client, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &size), 0);
    assert_int_equal(ms, 7000);
    close(client);
    close(listener);
}

static struct address unix_address(void **state, const char *name) {
    struct address a = { .kind = ADDRESS_UNIX };
    snprintf(a.host, sizeof(a.host), "%s/%s", (const char *)*state, name);
    return a;
}

static void a_stale_socket_file_is_replaced(void **state) {
    struct address a = unix_address(state, "stale");
    struct error err = { 0 };
    int first = address_listen(&a, &err);
    assert_ok(first >= 0, &err);
    talk(first, &a, "local client");
    close(first); /* the file stays */
    assert_int_equal(access(a.host, F_OK), 0);
    int second = address_listen(&a, &err);
    assert_ok(second >= 0, &err);
    talk(second, &a, "local client");
    close(second);
}

static void a_live_socket_is_not_replaced(void **state) {
    struct address a = unix_address(state, "live");
    struct error err = { 0 };
    int first = address_listen(&a, &err);
    assert_ok(first >= 0, &err);
    assert_refused(address_listen(&a, &err), &err, ERROR_USAGE, "listens on");
    char peer[64];
    int probe = accept_one(first, peer, sizeof(peer)); /* the second one's look */
    close(probe);
    talk(first, &a, "local client");
    close(first);
}

/* One that is so busy that its backlog is full is alive too; nobody waits for it. */
static void a_busy_socket_is_not_replaced(void **state) {
    struct address a = unix_address(state, "busy");
    struct error err = { 0 };
    int listener = address_listen(&a, &err), clients[8], n = 0;
    assert_ok(listener >= 0, &err);
    assert_int_equal(listen(listener, 0), 0);
    while (n < 8 && (clients[n] = connect_within(&a, CLOCK_S, &err)) >= 0) {
        n++;
    }
    assert_in_range(n, 1, 7);
    error_clear(&err);
    assert_refused(address_listen(&a, &err), &err, ERROR_USAGE, "listens on");
    while (n > 0) {
        close(clients[--n]);
    }
    close(listener);
}

static void other_files_are_never_removed(void **state) {
    struct address a = unix_address(state, "precious");
    struct error err = { 0 };
    int fd = open(a.host, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "data", 4), 4);
    close(fd);
    assert_refused(address_listen(&a, &err), &err, ERROR_SYSTEM, "cannot listen");
    struct stat st;
    assert_int_equal(stat(a.host, &st), 0);
    assert_int_equal(st.st_size, 4);
}

static void what_cannot_be_reached(void **state) {
    struct address a = unix_address(state, "nobody");
    struct error err = { 0 };
    assert_refused(connect_within(&a, CLOCK_S, &err), &err, ERROR_LINK, "nobody");
    snprintf(a.host, sizeof(a.host), "%s/no/such/folder", (const char *)*state);
    assert_refused(address_listen(&a, &err), &err, ERROR_SYSTEM, "directory has to be there");
    a = (struct address){ .kind = ADDRESS_TCP, .host = "127.0.0.1", .port = "no-such-service" };
    assert_refused(connect_within(&a, CLOCK_S, &err), &err, ERROR_LINK, "cannot resolve");
    assert_refused(address_listen(&a, &err), &err, ERROR_LINK, "cannot resolve");
}

/* The text says what to do about it. */
static void what_cannot_be_listened_on(void **state) {
    (void)state;
    struct address a = { .kind = ADDRESS_TCP, .host = "127.0.0.1", .port = "0" };
    struct error err = { 0 };
    int listener = address_listen(&a, &err);
    assert_true(listener >= 0);
    struct sockaddr_in name;
    socklen_t length = sizeof(name);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&name, &length), 0);
    snprintf(a.port, sizeof(a.port), "%u", ntohs(name.sin_port));
    assert_refused(address_listen(&a, &err), &err, ERROR_SYSTEM, "take another port");
    close(listener);
    snprintf(a.host, sizeof(a.host), "192.0.2.1"); /* for documents: no host has it */
    assert_refused(address_listen(&a, &err), &err, ERROR_SYSTEM, "does not have that address");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses),
        cmocka_unit_test(no_addresses),
        cmocka_unit_test(lengths),
        cmocka_unit_test(tcp),
        cmocka_unit_test(tcp6),
        cmocka_unit_test(tcp_connections_do_not_wait_for_more),
        cmocka_unit_test(what_cannot_be_listened_on),
        cmocka_unit_test(a_stale_socket_file_is_replaced),
        cmocka_unit_test(a_live_socket_is_not_replaced),
        cmocka_unit_test(a_busy_socket_is_not_replaced),
        cmocka_unit_test(other_files_are_never_removed),
        cmocka_unit_test(what_cannot_be_reached),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
