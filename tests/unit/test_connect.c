/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"
#include "wire/connect.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Who waits: counts, and wants an end after so many turns, or never. */
struct waiter {
    int turns, end_after; /* 0: never */
    int told;
    struct error why;
};

static int wait_and_count(void *opaque, int fd, int64_t timeout_ns, struct error *err) {
    struct waiter *w = opaque;
    w->turns++;
    if (w->end_after != 0 && w->turns >= w->end_after) {
        return error_set(err, ERROR_CANCELLED, "that will do");
    }
    struct pollfd p = { .fd = fd, .events = POLLIN };
    int64_t most = timeout_ns < 20 * CLOCK_MS ? timeout_ns : 20 * CLOCK_MS;
    poll(&p, 1, (int)(most / CLOCK_MS) + 1);
    return 0;
}

static void tell(void *opaque, const struct error *why) {
    struct waiter *w = opaque;
    w->told++;
    w->why = *why;
}

static struct connect_how how_of(struct waiter *w, int64_t timeout_ns, int64_t retry_ns) {
    return (struct connect_how){ .timeout = timeout_ns,
                                 .retry_until = retry_ns != 0 ? clock_now() + retry_ns : 0,
                                 .wait = wait_and_count,
                                 .waiting = tell,
                                 .opaque = w };
}

/* A port of `host` that nobody listens on; it stays bound, so that nobody takes it. */
static int quiet_port(const char *host, struct address *a) {
    struct sockaddr_in name = { .sin_family = AF_INET };
    socklen_t length = sizeof(name);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, host, &name.sin_addr);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, length), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &length), 0);
    *a = (struct address){ .kind = ADDRESS_TCP };
    snprintf(a->host, sizeof(a->host), "%s", host);
    snprintf(a->port, sizeof(a->port), "%u", ntohs(name.sin_port));
    return fd;
}

static void nobody_there_is_said_at_once(void **state) {
    (void)state;
    struct address a;
    struct waiter w = { 0 };
    struct error err = { 0 };
    int fd = quiet_port("127.0.0.1", &a);
    struct connect_how how = how_of(&w, 10 * CLOCK_S, 0);
    assert_refused(connect_to(&a, &how, &err), &err, ERROR_LINK,
                   "Connection refused (is 'godwit receive' running there?)");
    assert_int_equal(w.told, 0);
    close(fd);
}

static void *listen_later(void *opaque) {
    clock_sleep(500 * CLOCK_MS);
    assert_int_equal(listen(*(int *)opaque, 1), 0);
    return NULL;
}

static void one_that_comes_later_is_waited_for(void **state) {
    (void)state;
    struct address a;
    struct waiter w = { 0 };
    struct error err = { 0 };
    pthread_t thread;
    int listener = quiet_port("127.0.0.1", &a);
    pthread_create(&thread, NULL, listen_later, &listener);
    struct connect_how how = how_of(&w, 10 * CLOCK_S, 30 * CLOCK_S);
    int fd = connect_to(&a, &how, &err);
    assert_ok(fd >= 0, &err);
    pthread_join(thread, NULL);
    assert_int_equal(w.told, 1); /* once, however many attempts */
    assert_non_null(strstr(w.why.desc, "Connection refused"));
    assert_false(error_is_set(&err));
    close(fd);
    close(listener);
}

static void the_wait_ends(void **state) {
    (void)state;
    struct address a;
    struct waiter w = { 0 };
    struct error err = { 0 };
    int fd = quiet_port("127.0.0.1", &a);
    int64_t begin = clock_now();
    struct connect_how how = how_of(&w, 10 * CLOCK_S, CLOCK_S);
    assert_refused(connect_to(&a, &how, &err), &err, ERROR_LINK, "tried for 1 s: cannot connect to 127.0.0.1");
    assert_true(clock_now() - begin >= CLOCK_S);
    assert_true(clock_now() - begin < 10 * CLOCK_S);
    assert_int_equal(w.told, 1);
    close(fd);
}

static void a_cancel_counts_between_attempts(void **state) {
    (void)state;
    struct address a;
    struct waiter w = { .end_after = 3 };
    struct error err = { 0 };
    int fd = quiet_port("127.0.0.1", &a);
    struct connect_how how = how_of(&w, 10 * CLOCK_S, 3600 * CLOCK_S);
    assert_refused(connect_to(&a, &how, &err), &err, ERROR_CANCELLED, "that will do");
    close(fd);
}

/* A listener whose backlog is full takes no more: SYNs go unanswered, as behind a firewall that drops. */
static int full_listener(struct address *a, int clients[], int count) {
    int listener = quiet_port("127.0.0.1", a);
    struct sockaddr_in name = { .sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(a->port, NULL, 10)) };
    inet_pton(AF_INET, "127.0.0.1", &name.sin_addr);
    assert_int_equal(listen(listener, 0), 0);
    for (int i = 0; i < count; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(connect(clients[i], (struct sockaddr *)&name, sizeof(name)) == 0 || errno == EINPROGRESS);
    }
    clock_sleep(50 * CLOCK_MS);
    return listener;
}

#define CLIENTS 4

static void a_cancel_counts_while_nothing_answers(void **state) {
    (void)state;
    struct address a;
    struct waiter w = { .end_after = 4 };
    struct error err = { 0 };
    int clients[CLIENTS], listener = full_listener(&a, clients, CLIENTS);
    struct connect_how how = how_of(&w, 3600 * CLOCK_S, 0);
    assert_refused(connect_to(&a, &how, &err), &err, ERROR_CANCELLED, "that will do");
    w = (struct waiter){ 0 };
    how = how_of(&w, 300 * CLOCK_MS, 0);
    assert_refused(connect_to(&a, &how, &err), &err, ERROR_LINK, "does a firewall drop what is for that port");
    for (int i = 0; i < CLIENTS; i++) {
        close(clients[i]);
    }
    close(listener);
}

static void slow_names(int64_t ms) {
    char text[64];
    snprintf(text, sizeof(text), "slow-name=%lld", (long long)ms);
    assert_int_equal(setenv("GODWIT_FAULT", text, 1), 0);
}

/* The thread that hangs in getaddrinfo() is left behind, and is no leak when it comes back. */
static void a_cancel_counts_while_a_name_is_looked_up(void **state) {
    (void)state;
    struct address a = { .kind = ADDRESS_TCP, .host = "localhost", .port = "1" };
    struct waiter w = { .end_after = 3 };
    struct error err = { 0 };
    slow_names(500);
    struct connect_how how = how_of(&w, 3600 * CLOCK_S, 0);
    int64_t begin = clock_now();
    assert_refused(connect_to(&a, &how, &err), &err, ERROR_CANCELLED, "that will do");
    assert_true(clock_now() - begin < 450 * CLOCK_MS);
    w = (struct waiter){ 0 };
    how = how_of(&w, 100 * CLOCK_MS, 0);
    assert_refused(connect_to(&a, &how, &err), &err, ERROR_LINK, "cannot resolve localhost: no answer within");
    w = (struct waiter){ 0 };
    how = how_of(&w, 10 * CLOCK_S, 0);
    assert_refused(connect_to(&a, &how, &err), &err, ERROR_LINK, "cannot connect to localhost port 1");
    unsetenv("GODWIT_FAULT");
    clock_sleep(700 * CLOCK_MS);
}

static void a_signal_is_heard(void **state) {
    (void)state;
    struct address a;
    struct error err = { 0 };
    int signal_fd = eventfd(1, EFD_CLOEXEC), fd = quiet_port("127.0.0.1", &a);
    struct connect_how how = { .timeout = CLOCK_S,
                               .retry_until = clock_now() + 3600 * CLOCK_S,
                               .wait = connect_wait_for_signal,
                               .opaque = &signal_fd };
    assert_refused(connect_to(&a, &how, &err), &err, ERROR_CANCELLED, "cancelled; the guest runs on");
    close(signal_fd);
    close(fd);
}

static void the_peer_is_who_answered(void **state) {
    (void)state;
    struct address a, peer;
    struct error err = { 0 };
    int listener = quiet_port("127.0.0.3", &a);
    assert_int_equal(listen(listener, 4), 0);
    struct connect_how how = { .timeout = 10 * CLOCK_S };
    int fd = connect_to(&a, &how, &err);
    assert_ok(fd >= 0, &err);
    struct address asked = { .kind = ADDRESS_TCP, .host = "a-name-with-many-addresses", .port = "godwit" };
    assert_ok(connect_peer(fd, &asked, &peer, &err) == 0, &err);
    assert_int_equal(peer.kind, ADDRESS_TCP);
    assert_string_equal(peer.host, "127.0.0.3");
    assert_string_equal(peer.port, a.port);
    close(fd);
    close(listener);
    struct address path = { .kind = ADDRESS_UNIX, .host = "/run/x" };
    assert_ok(connect_peer(-1, &path, &peer, &err) == 0, &err);
    assert_string_equal(peer.host, "/run/x");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_there_is_said_at_once),
        cmocka_unit_test(one_that_comes_later_is_waited_for),
        cmocka_unit_test(the_wait_ends),
        cmocka_unit_test(a_cancel_counts_between_attempts),
        cmocka_unit_test(a_cancel_counts_while_nothing_answers),
        cmocka_unit_test(a_cancel_counts_while_a_name_is_looked_up),
        cmocka_unit_test(a_signal_is_heard),
        cmocka_unit_test(the_peer_is_who_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
