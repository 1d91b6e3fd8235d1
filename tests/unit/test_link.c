/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"
#include "wire/bytes.h"
#include "wire/link.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENT (60 * CLOCK_S)

static struct link *open_link(int fd, int64_t timeout) {
    struct error err = { 0 };
    struct link *l = link_open(fd, timeout, &err);
    assert_ok(l != NULL, &err);
    return l;
}

/* Waits for the next message, or for the end: what link_receive() answers. */
static int receive(struct link *l, json_t **message, struct error *err) {
    for (;;) {
        int rc = link_receive(l, message, err);
        if (rc != 0) {
            return rc;
        }
        struct pollfd p = { .fd = link_poll_fd(l), .events = POLLIN };
        assert_int_equal(poll(&p, 1, 40000), 1);
    }
}

static void expect_number(struct link *l, int number) {
    json_t *message = NULL;
    struct error err = { 0 };
    assert_ok(receive(l, &message, &err) == 1, &err);
    assert_int_equal(json_integer_value(json_object_get(message, "n")), number);
    json_decref(message);
}

static void send_number(struct link *l, int number) {
    struct error err = { 0 };
    assert_ok(link_send(l, json_pack("{s:s, s:i}", "type", "test", "n", number), &err) == 0, &err);
}

static void expect_end(struct link *l, enum error_class class, const char *text) {
    json_t *message = NULL;
    struct error err = { 0 };
    assert_refused(receive(l, &message, &err), &err, class, text);
    /* and again: the end stays */
    assert_refused(link_receive(l, &message, &err), &err, class, text);
}

static void messages_travel_both_ways(void **state) {
    (void)state;
    int ends[2];
    socket_pair(ends, 0);
    struct link *a = open_link(ends[0], PATIENT), *b = open_link(ends[1], PATIENT);
    for (int turn = 0; turn < 100; turn += LINK_MAX_WAITING) {
        for (int i = turn; i < turn + LINK_MAX_WAITING; i++) {
            send_number(a, i);
            send_number(b, i + 1000);
        }
        for (int i = turn; i < turn + LINK_MAX_WAITING; i++) {
            expect_number(b, i);
            expect_number(a, i + 1000);
        }
    }
    json_t *message;
    struct error err = { 0 };
    assert_int_equal(link_receive(a, &message, &err), 0);
    struct pollfd p = { .fd = link_poll_fd(a), .events = POLLIN };
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_true(atomic_load(&link_conn(a)->sent) > 0);
    link_close(a);
    link_close(b);
}

static void a_long_message_arrives(void **state) {
    (void)state;
    int ends[2];
    socket_pair(ends, 4096);
    struct link *a = open_link(ends[0], PATIENT), *b = open_link(ends[1], PATIENT);
    struct error err = { 0 };
    size_t size = LINK_MAX_MESSAGE - 100;
    char *text = malloc(size + 1);
    assert_non_null(text);
    memset(text, 'x', size);
    text[size] = '\0';
    assert_ok(link_send(a, json_pack("{s:s}", "text", text), &err) == 0, &err);
    json_t *message = NULL;
    assert_ok(receive(b, &message, &err) == 1, &err);
    assert_string_equal(json_string_value(json_object_get(message, "text")), text);
    json_decref(message);
    free(text);
    link_close(a);
    link_close(b);
}

static void what_is_too_long_is_not_sent(void **state) {
    (void)state;
    int ends[2];
    socket_pair(ends, 0);
    struct link *a = open_link(ends[0], PATIENT), *b = open_link(ends[1], PATIENT);
    struct error err = { 0 };
    char *text = malloc(LINK_MAX_MESSAGE + 1);
    assert_non_null(text);
    memset(text, 'x', LINK_MAX_MESSAGE);
    text[LINK_MAX_MESSAGE] = '\0';
    assert_refused(link_send(a, json_pack("{s:s}", "text", text), &err), &err, ERROR_SYSTEM, "too long");
    free(text);
    send_number(a, 5); /* nothing of it went out */
    expect_number(b, 5);
    link_close(a);
    link_close(b);
}

/* A link whose peer is this test. */
struct half {
    struct link *link;
    int peer;
};

static struct half open_half(int64_t timeout) {
    int ends[2];
    socket_pair(ends, 0);
    return (struct half){ open_link(ends[0], timeout), ends[1] };
}

static void close_half(struct half *h) {
    link_close(h->link);
    close(h->peer);
}

static void say_bytes(const struct half *h, uint32_t announced, const char *bytes, size_t size) {
    uint8_t head[4];
    put_u32(head, announced);
    assert_int_equal(send(h->peer, head, sizeof(head), MSG_NOSIGNAL), sizeof(head));
    if (size > 0) { /* the head alone may have been enough for the link to break */
        assert_int_equal(send(h->peer, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
    }
}

static void say(const struct half *h, const char *text) {
    say_bytes(h, (uint32_t)strlen(text), text, strlen(text));
}

static void a_message_that_is_too_long_is_refused(void **state) {
    (void)state;
    static const uint32_t sizes[] = { LINK_MAX_MESSAGE + 1, UINT32_MAX };
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct half h = open_half(PATIENT);
        say_bytes(&h, sizes[i], "", 0);
        expect_end(h.link, ERROR_PEER, "which cannot be");
        close_half(&h);
    }
    /* the longest one that is allowed is waited for */
    struct half h = open_half(PATIENT);
    say_bytes(&h, LINK_MAX_MESSAGE, "{", 1);
    shutdown(h.peer, SHUT_WR);
    expect_end(h.link, ERROR_LINK, "closed the connection");
    close_half(&h);
}

static void what_is_no_json_object_is_refused(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "nonsense",
        "{",
        "{}x",
        "[]",
        "[1]",
        "1",
        "\"text\"",
        "null",
        "{\"a\":1,\"a\":2}",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\\u0000\"}",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct half h = open_half(PATIENT);
        say(&h, texts[i]);
        expect_end(h.link, ERROR_PEER, "not JSON");
        close_half(&h);
    }
    struct half h = open_half(PATIENT);
    say(&h, "{}");
    json_t *message = NULL;
    struct error err = { 0 };
    assert_ok(receive(h.link, &message, &err) == 1, &err);
    json_decref(message);
    close_half(&h);
}

static void messages_before_the_break_come_first(void **state) {
    (void)state;
    struct half h = open_half(PATIENT);
    say(&h, "{\"n\":1}");
    say(&h, "{\"n\":2}");
    say(&h, "{\"n\":3}");
    say(&h, "nonsense");
    /* wait for the break before anything is taken */
    char byte;
    WAIT_FOR(recv(h.peer, &byte, 1, MSG_DONTWAIT) == 0);
    expect_number(h.link, 1);
    expect_number(h.link, 2);
    expect_number(h.link, 3);
    expect_end(h.link, ERROR_PEER, "not JSON");
    close_half(&h);
}

static void the_peer_goes_away(void **state) {
    (void)state;
    struct half h = open_half(PATIENT);
    say(&h, "{\"n\":1}");
    shutdown(h.peer, SHUT_RDWR);
    expect_number(h.link, 1);
    expect_end(h.link, ERROR_LINK, "closed the connection");
    struct error err = { 0 };
    assert_refused(link_send(h.link, json_object(), &err), &err, ERROR_LINK, NULL);
    close_half(&h);
}

/* True when the connection was broken from our side: its peer sees the end. */
static bool is_broken(int peer) {
    char byte;
    return recv(peer, &byte, 1, MSG_DONTWAIT) == 0;
}

static void silence_breaks_all_that_is_watched(void **state) {
    (void)state;
    struct half h = open_half(CLOCK_S / 5);
    int ends[2], late_ends[2];
    struct conn watched, late;
    socket_pair(ends, 0);
    socket_pair(late_ends, 0);
    conn_init(&watched, ends[0], "channel 1");
    conn_init(&late, late_ends[0], "channel 2");
    link_watch(h.link, &watched);
    expect_end(h.link, ERROR_LINK, "silent");
    assert_true(is_broken(ends[1]));
    assert_false(is_broken(late_ends[1]));
    link_watch(h.link, &late); /* too late to wait for */
    assert_true(is_broken(late_ends[1]));
    close_half(&h);
    conn_close(&watched);
    conn_close(&late);
    close(ends[1]);
    close(late_ends[1]);
}

/* A peer that stops in the middle of a message is silent too. */
static void half_a_message_does_not_hold_the_link(void **state) {
    (void)state;
    static const char part[] = "\x64\0\0\0{\"n\":";
    for (size_t size = 1; size < sizeof(part); size++) {
        int ends[2];
        socket_pair(ends, 0);
        assert_int_equal(send(ends[1], part, size, MSG_NOSIGNAL), (ssize_t)size);
        struct half h = { open_link(ends[0], CLOCK_S / 20), ends[1] };
        expect_end(h.link, ERROR_LINK, NULL);
        close_half(&h);
    }
}

/* Two links with a timeout just over the ping's interval say nothing of their own, and neither breaks. */
static void pings_keep_a_quiet_link_alive(void **state) {
    (void)state;
    int ends[2];
    socket_pair(ends, 0);
    struct link *a = open_link(ends[0], 3 * CLOCK_S), *b = open_link(ends[1], 3 * CLOCK_S);
    WAIT_FOR(atomic_load(&link_conn(a)->received) >= 4 * 19); /* several pings: longer than the timeout */
    json_t *message;
    struct error err = { 0 };
    assert_ok(link_receive(a, &message, &err) == 0, &err); /* pings are not messages */
    assert_ok(link_receive(b, &message, &err) == 0, &err);
    send_number(a, 1);
    expect_number(b, 1);
    link_close(a);
    link_close(b);
}

static void pings_are_swallowed(void **state) {
    (void)state;
    struct half h = open_half(PATIENT);
    say(&h, "{\"type\":\"ping\"}");
    say(&h, "{\"n\":7}");
    say(&h, "{\"type\":7,\"n\":8}");
    expect_number(h.link, 7);
    expect_number(h.link, 8);
    close_half(&h);
}

/* More than the queue holds waits in the socket: nothing is lost, and nobody is blamed. */
static void a_flood_waits(void **state) {
    (void)state;
    struct half h = open_half(PATIENT);
    for (int i = 0; i < 5 * LINK_MAX_WAITING; i++) {
        char text[32];
        snprintf(text, sizeof(text), "{\"n\": %d}", 1000 + i);
        say(&h, text);
    }
    WAIT_FOR(atomic_load(&link_conn(h.link)->received) >= LINK_MAX_WAITING * 15);
    clock_sleep(50 * CLOCK_MS);
    assert_int_equal(atomic_load(&link_conn(h.link)->received), LINK_MAX_WAITING * 15);
    for (int i = 0; i < 5 * LINK_MAX_WAITING; i++) {
        expect_number(h.link, 1000 + i);
    }
    close_half(&h);
}

static void breaking_it_ourselves(void **state) {
    (void)state;
    int ends[2], more[2];
    struct conn watched;
    socket_pair(ends, 0);
    socket_pair(more, 0);
    conn_init(&watched, more[0], "channel 1");
    struct link *a = open_link(ends[0], PATIENT), *b = open_link(ends[1], PATIENT);
    link_watch(a, &watched);
    link_break(a);
    expect_end(a, ERROR_LINK, "was closed");
    assert_true(is_broken(more[1]));
    expect_end(b, ERROR_LINK, NULL);
    link_close(a);
    link_close(b);
    link_close(NULL);
    conn_close(&watched);
    close(more[1]);
}

static void closing_with_messages_left_leaks_nothing(void **state) {
    (void)state;
    struct half h = open_half(PATIENT);
    say(&h, "{\"n\":1}");
    struct pollfd p = { .fd = link_poll_fd(h.link), .events = POLLIN };
    assert_int_equal(poll(&p, 1, 40000), 1);
    close_half(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_travel_both_ways),
        cmocka_unit_test(a_long_message_arrives),
        cmocka_unit_test(what_is_too_long_is_not_sent),
        cmocka_unit_test(a_message_that_is_too_long_is_refused),
        cmocka_unit_test(what_is_no_json_object_is_refused),
        cmocka_unit_test(messages_before_the_break_come_first),
        cmocka_unit_test(the_peer_goes_away),
        cmocka_unit_test(silence_breaks_all_that_is_watched),
        cmocka_unit_test(half_a_message_does_not_hold_the_link),
        cmocka_unit_test(pings_keep_a_quiet_link_alive),
        cmocka_unit_test(pings_are_swallowed),
        cmocka_unit_test(a_flood_waits),
        cmocka_unit_test(breaking_it_ourselves),
        cmocka_unit_test(closing_with_messages_left_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
