/* SPDX-License-Identifier: Apache-2.0 */
/* A control connection before it has brought its guest: what it may say, in which pieces, and what it costs us. */
#include "support.h"
#include "wire/bytes.h"

#include "migrate/candidate.h"
#include "wire/link.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define INSPECT "{\"type\":\"request\",\"stage\":\"inspect\",\"args\":{\"guest\":{}}}"
#define PING "{\"type\":\"ping\"}"

struct talk {
    int ours, theirs;
    struct candidate c;
    json_t *request;
    struct error why;
};

static void begin(struct talk *t) {
    int ends[2];
    static const uint8_t session[SESSION_SIZE] = "abcdefghijklmno";
    *t = (struct talk){ 0 };
    socket_pair(ends, 0);
    t->ours = ends[0];
    t->theirs = ends[1];
    candidate_begin(&t->c, session);
    assert_memory_equal(t->c.session, session, SESSION_SIZE);
}

static void end(struct talk *t) {
    candidate_end(&t->c);
    json_decref(t->request);
    close(t->ours);
    if (t->theirs >= 0) {
        close(t->theirs);
    }
}

static void put(struct talk *t, const void *data, size_t size) {
    assert_int_equal(send(t->theirs, data, size, MSG_DONTWAIT), (ssize_t)size);
}

static void say(struct talk *t, const char *text) {
    uint8_t head[4];
    put_u32(head, (uint32_t)strlen(text));
    put(t, head, sizeof(head));
    put(t, text, strlen(text));
}

static int look(struct talk *t) {
    return candidate_read(&t->c, t->ours, &t->request, &t->why);
}

static void it_brings_its_guest(void **state) {
    (void)state;
    struct talk t;
    begin(&t);
    assert_int_equal(look(&t), 0);
    say(&t, PING);
    say(&t, INSPECT);
    say(&t, PING); /* for the link, which goes on from here */
    assert_ok(look(&t) == 1, &t.why);
    assert_true(json_is_object(json_object_get(json_object_get(t.request, "args"), "guest")));
    uint8_t rest[64];
    assert_int_equal(recv(t.ours, rest, sizeof(rest), MSG_DONTWAIT), 4 + strlen(PING));
    end(&t);
}

/* Byte by byte, with a look after each. */
static void it_drips(void **state) {
    (void)state;
    struct talk t;
    begin(&t);
    uint8_t all[256];
    size_t size = 4 + strlen(INSPECT);
    put_u32(all, (uint32_t)strlen(INSPECT));
    memcpy(all + 4, INSPECT, strlen(INSPECT));
    for (size_t i = 0; i + 1 < size; i++) {
        put(&t, all + i, 1);
        assert_ok(look(&t) == 0, &t.why);
    }
    put(&t, all + size - 1, 1);
    assert_ok(look(&t) == 1, &t.why);
    end(&t);
}

static void expect_refused(const char *text, enum error_class class, const char *reason) {
    struct talk t;
    begin(&t);
    say(&t, text);
    assert_refused(look(&t), &t.why, class, reason);
    assert_null(t.request);
    end(&t);
}

static void it_says_something_else(void **state) {
    (void)state;
    expect_refused("{\"type\":\"request\",\"stage\":\"run\"}", ERROR_PEER, "'request run'");
    expect_refused("{\"type\":\"request\"}", ERROR_PEER, "'request'");
    expect_refused("{\"type\":\"bye\"}", ERROR_PEER, "'bye'");
    expect_refused("{}", ERROR_PEER, "'(none)'");
    expect_refused("[]", ERROR_PEER, "not JSON");
    expect_refused("nonsense", ERROR_PEER, "not JSON");
    expect_refused("{\"type\":\"abort\",\"class\":\"cancelled\",\"desc\":\"never mind\"}", ERROR_CANCELLED,
                   "the source gave up: never mind");
}

static void it_announces_what_cannot_be(void **state) {
    (void)state;
    static const uint32_t sizes[] = { 0, LINK_MAX_MESSAGE + 1, UINT32_MAX };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct talk t;
        uint8_t head[4];
        begin(&t);
        put_u32(head, sizes[i]);
        put(&t, head, sizeof(head));
        assert_refused(look(&t), &t.why, ERROR_PEER, "which cannot be");
        end(&t);
    }
    struct talk t;
    uint8_t head[4];
    begin(&t);
    put_u32(head, LINK_MAX_MESSAGE);
    put(&t, head, sizeof(head));
    assert_ok(look(&t) == 0, &t.why);
    end(&t);
}

static void pings_are_bounded(void **state) {
    (void)state;
    struct talk t;
    begin(&t);
    for (int i = 0; i < CANDIDATE_PINGS; i++) {
        say(&t, PING);
    }
    assert_ok(look(&t) == 0, &t.why);
    say(&t, PING);
    assert_refused(look(&t), &t.why, ERROR_PEER, "pings, and no guest");
    end(&t);
}

static void it_leaves(void **state) {
    (void)state;
    struct talk t;
    begin(&t);
    say(&t, PING);
    close(t.theirs);
    t.theirs = -1;
    assert_refused(look(&t), &t.why, ERROR_LINK, "closed the connection");
    end(&t);
}

/* What we say reaches the other end as messages of its link. */
static void it_is_told(void **state) {
    (void)state;
    struct talk t;
    struct error why = { 0 }, err = { 0 };
    begin(&t);
    error_set(&why, ERROR_PEER, "the receiver is busy");
    assert_int_equal(candidate_ping(t.ours), 0);
    candidate_refuse(t.ours, &why);
    struct link *l = link_open(t.theirs, 10 * CLOCK_S, &err);
    assert_ok(l != NULL, &err);
    t.theirs = -1;
    json_t *message = NULL;
    int rc;
    while ((rc = link_receive(l, &message, &err)) == 0) {
        clock_sleep(CLOCK_MS);
    }
    assert_ok(rc == 1, &err);
    assert_string_equal(json_string_value(json_object_get(message, "type")), "error");
    assert_string_equal(json_string_value(json_object_get(message, "class")), "peer");
    assert_string_equal(json_string_value(json_object_get(message, "desc")), "the receiver is busy");
    json_decref(message);
    link_close(l);
    end(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_brings_its_guest),
        cmocka_unit_test(it_drips),
        cmocka_unit_test(it_says_something_else),
        cmocka_unit_test(it_announces_what_cannot_be),
        cmocka_unit_test(pings_are_bounded),
        cmocka_unit_test(it_leaves),
        cmocka_unit_test(it_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
