/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"
#include "wire/bytes.h"
#include "wire/hello.h"

#include <sys/socket.h>
#include <unistd.h>

static const struct hello sample = {
    .version = 0x1234, .role = ROLE_CHANNEL, .channel = 0xabcd, .session = { 1, 2, 3, 255, 0, 9, 8, 7 }
};

static void hello_round_trip(void **state) {
    (void)state;
    uint8_t bytes[HELLO_SIZE];
    struct hello got;
    hello_encode(&sample, bytes);
    assert_int_equal(hello_decode(bytes, &got), 0);
    assert_int_equal(got.version, sample.version);
    assert_int_equal(got.role, sample.role);
    assert_int_equal(got.channel, sample.channel);
    assert_memory_equal(got.session, sample.session, SESSION_SIZE);
    /* little-endian, whatever the host is */
    assert_int_equal(bytes[8], 0x34);
    assert_int_equal(bytes[9], 0x12);
}

static void welcome_round_trip(void **state) {
    (void)state;
    uint8_t bytes[WELCOME_SIZE];
    struct welcome want = { .version = 0xfedc, .status = WELCOME_SESSION, .session = { 9, 8, 7 } }, got;
    welcome_encode(&want, bytes);
    assert_int_equal(welcome_decode(bytes, &got), 0);
    assert_int_equal(got.version, want.version);
    assert_int_equal(got.status, want.status);
    assert_memory_equal(got.session, want.session, SESSION_SIZE);
}

static void measured_round_trip(void **state) {
    (void)state;
    uint8_t bytes[MEASURED_SIZE];
    struct measured want = { UINT64_C(0x123456789a), 987654321 }, got;
    measured_encode(&want, bytes);
    assert_int_equal(measured_decode(bytes, &got), 0);
    assert_int_equal(got.bytes, want.bytes);
    assert_int_equal(got.time, want.time);
    assert_int_equal(bytes[8], 0x9a);
    bytes[0] ^= 1;
    assert_int_equal(measured_decode(bytes, &got), -1);
}

/* It is divided by. */
static void nothing_measured_is_garbage(void **state) {
    (void)state;
    uint8_t bytes[MEASURED_SIZE];
    static const struct measured none[] = { { 0, 1 }, { 1, 0 }, { 1, -1 }, { 1, INT64_MIN } };
    struct measured got;
    for (size_t i = 0; i < 4; i++) {
        measured_encode(&none[i], bytes);
        assert_int_equal(measured_decode(bytes, &got), -1);
    }
    measured_encode(&(struct measured){ UINT64_MAX, INT64_MAX }, bytes);
    assert_int_equal(measured_decode(bytes, &got), 0);
}

static void another_magic_is_garbage(void **state) {
    (void)state;
    uint8_t bytes[HELLO_SIZE], answer[WELCOME_SIZE];
    struct hello h;
    struct welcome w = { .version = 1 };
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            hello_encode(&sample, bytes);
            bytes[i] ^= (uint8_t)(1u << bit);
            assert_int_equal(hello_decode(bytes, &h), -1);
            welcome_encode(&w, answer);
            answer[i] ^= (uint8_t)(1u << bit);
            assert_int_equal(welcome_decode(answer, &w), -1);
        }
    }
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(hello_decode(bytes, &h), -1);
    memcpy(bytes, "GET / HTTP/1.1\r\nHost: somewhere-else.org", HELLO_SIZE);
    assert_int_equal(hello_decode(bytes, &h), -1);
}

static void a_beginning_is_told_by_its_bytes(void **state) {
    (void)state;
    uint8_t bytes[HELLO_SIZE];
    hello_encode(&sample, bytes);
    for (unsigned n = 0; n <= HELLO_SIZE; n++) {
        assert_true(hello_may_begin(bytes, n));
    }
    assert_false(hello_may_begin((const uint8_t *)"G", 1));
    assert_false(hello_may_begin((const uint8_t *)"\x16\x03\x01", 3)); /* TLS */
    for (unsigned n = 1; n <= 8; n++) {
        bytes[n - 1] ^= 1;
        assert_false(hello_may_begin(bytes, n));
        assert_true(hello_may_begin(bytes, n - 1));
        bytes[n - 1] ^= 1;
    }
}

/* Plays the receiver: hello_send() and hello_receive() are answered with `bytes`. */
static int answered(const uint8_t *bytes, size_t size, struct hello *h, uint8_t *sent, struct error *err) {
    int ends[2];
    socket_pair(ends, 0);
    struct conn c;
    conn_init(&c, ends[0], "control");
    assert_int_equal(write(ends[1], bytes, size), (ssize_t)size); /* it fits into the socket's buffer */
    assert_int_equal(shutdown(ends[1], SHUT_WR), 0);
    int rc = hello_send(&c, h, err) < 0 ? -1 : hello_receive(&c, h, err);
    assert_int_equal(recv(ends[1], sent, HELLO_SIZE, MSG_WAITALL), HELLO_SIZE);
    conn_close(&c);
    close(ends[1]);
    return rc;
}

static void exchange_brings_the_session(void **state) {
    (void)state;
    struct welcome w = { .version = PROTOCOL_VERSION, .status = WELCOME_OK, .session = { 42, 43 } };
    struct hello h = { .role = ROLE_CONTROL, .channel = 3 }, seen;
    struct error err = { 0 };
    uint8_t bytes[WELCOME_SIZE], sent[HELLO_SIZE];
    welcome_encode(&w, bytes);
    assert_ok(answered(bytes, sizeof(bytes), &h, sent, &err) == 0, &err);
    assert_memory_equal(h.session, w.session, SESSION_SIZE);
    assert_int_equal(hello_decode(sent, &seen), 0);
    assert_int_equal(seen.version, PROTOCOL_VERSION);
    assert_int_equal(seen.role, ROLE_CONTROL);
    assert_int_equal(seen.channel, 3);
}

static void every_refusal_is_explained(void **state) {
    (void)state;
    static const struct {
        uint8_t status;
        const char *text;
    } rows[] = {
        { WELCOME_VERSION, "same godwit version" },
        { WELCOME_BUSY, "busy" },
        { WELCOME_SESSION, "does not know this migration" },
        { WELCOME_SESSION + 1, "unknown status 4" },
        { 255, "unknown status 255" },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct welcome w = { .version = 77, .status = rows[i].status };
        struct hello h = { .role = ROLE_CHANNEL, .session = { 5 } };
        struct error err = { 0 };
        uint8_t bytes[WELCOME_SIZE], sent[HELLO_SIZE];
        welcome_encode(&w, bytes);
        assert_refused(answered(bytes, sizeof(bytes), &h, sent, &err), &err, ERROR_PEER, rows[i].text);
        assert_int_equal(h.session[0], 5);
    }
}

static void what_is_no_godwit(void **state) {
    (void)state;
    struct hello h = { .role = ROLE_CONTROL };
    struct error err = { 0 };
    uint8_t bytes[WELCOME_SIZE] = "SSH-2.0-OpenSSH_9.2 and more...", sent[HELLO_SIZE];
    assert_refused(answered(bytes, sizeof(bytes), &h, sent, &err), &err, ERROR_PEER, "not 'godwit receive'");
    error_clear(&err);
    h.role = ROLE_RELAY;
    assert_refused(answered(bytes, sizeof(bytes), &h, sent, &err), &err, ERROR_PEER, "not 'godwit relay --listen'");
    assert_refused(answered(bytes, 31, &h, sent, &err), &err, ERROR_LINK, "no welcome");
    assert_refused(answered(bytes, 0, &h, sent, &err), &err, ERROR_LINK, "no welcome");
}

static void integers_are_little_endian(void **state) {
    (void)state;
    uint8_t bytes[9] = { 0 };
    put_u64(bytes + 1, UINT64_C(0x0102030405060708)); /* at an odd address */
    static const uint8_t want[8] = { 8, 7, 6, 5, 4, 3, 2, 1 };
    assert_memory_equal(bytes + 1, want, 8);
    assert_true(get_u64(bytes + 1) == UINT64_C(0x0102030405060708));
    assert_int_equal(get_u32(bytes + 1), 0x05060708);
    assert_int_equal(get_u16(bytes + 1), 0x0708);
    put_u32(bytes + 1, 0xa1b2c3d4);
    put_u16(bytes + 5, 0xe5f6);
    assert_true(get_u64(bytes + 1) == UINT64_C(0x0102e5f6a1b2c3d4));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_round_trip),
        cmocka_unit_test(welcome_round_trip),
        cmocka_unit_test(measured_round_trip),
        cmocka_unit_test(nothing_measured_is_garbage),
        cmocka_unit_test(another_magic_is_garbage),
        cmocka_unit_test(a_beginning_is_told_by_its_bytes),
        cmocka_unit_test(exchange_brings_the_session),
        cmocka_unit_test(every_refusal_is_explained),
        cmocka_unit_test(what_is_no_godwit),
        cmocka_unit_test(integers_are_little_endian),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
