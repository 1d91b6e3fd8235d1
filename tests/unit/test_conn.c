/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limit.h"
#include "support.h"
#include "wire/conn.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

static struct conn a, b;

static void connect_both(int buffer) {
    int ends[2];
    socket_pair(ends, buffer);
    conn_init(&a, ends[0], "a");
    conn_init(&b, ends[1], "b");
}

static void close_both(void) {
    conn_close(&a);
    conn_close(&b);
}

/* What another thread reads from `b`, in one piece. */
struct reader {
    pthread_t thread;
    uint8_t *data;
    size_t size;
    int rc;
    struct error err;
};

static void *read_all(void *opaque) {
    struct reader *r = opaque;
    r->rc = conn_read(&b, r->data, r->size, &r->err);
    return NULL;
}

static void reader_start(struct reader *r, size_t size) {
    *r = (struct reader){ .data = calloc(1, size), .size = size };
    assert_non_null(r->data);
    assert_int_equal(pthread_create(&r->thread, NULL, read_all, r), 0);
}

#define PIECES 37

/* Pieces of odd sizes through a small buffer: the kernel takes them in parts that end anywhere. */
static void partial_writes(void **state) {
    (void)state;
    uint64_t seed = 1;
    size_t sizes[PIECES], total = 0;
    for (int i = 0; i < PIECES; i++) {
        sizes[i] = i % 5 == 0 ? 0 : random_below(&seed, 60000);
        total += sizes[i];
    }
    uint8_t *data = malloc(total);
    assert_non_null(data);
    random_fill(&seed, data, total);
    struct iovec iov[PIECES];
    size_t at = 0;
    for (int i = 0; i < PIECES; i++) {
        iov[i] = (struct iovec){ data + at, sizes[i] };
        at += sizes[i];
    }
    connect_both(4096);
    struct reader r;
    struct error err = { 0 };
    reader_start(&r, total);
    assert_ok(conn_writev(&a, iov, PIECES, &err) == 0, &err);
    pthread_join(r.thread, NULL);
    assert_ok(r.rc == 0, &r.err);
    assert_memory_equal(r.data, data, total);
    assert_int_equal(a.sent, total);
    assert_int_equal(b.received, total);
    assert_int_equal(a.received, 0);
    free(r.data);
    free(data);
    close_both();
}

static void more_pieces_than_the_kernel_takes(void **state) {
    (void)state;
    enum { MANY = 3000 };
    static struct iovec iov[MANY];
    static uint8_t data[MANY];
    for (int i = 0; i < MANY; i++) {
        data[i] = (uint8_t)(i * 7);
        iov[i] = (struct iovec){ data + i, 1 };
    }
    connect_both(0);
    struct reader r;
    struct error err = { 0 };
    reader_start(&r, MANY);
    assert_ok(conn_writev(&a, iov, MANY, &err) == 0, &err);
    pthread_join(r.thread, NULL);
    assert_ok(r.rc == 0, &r.err);
    assert_memory_equal(r.data, data, MANY);
    free(r.data);
    close_both();
}

static void nothing_is_a_size_too(void **state) {
    (void)state;
    connect_both(0);
    struct error err = { 0 };
    uint8_t byte = 7;
    assert_ok(conn_write(&a, NULL, 0, &err) == 0, &err);
    assert_ok(conn_read(&b, NULL, 0, &err) == 0, &err);
    struct iovec iov[2] = { { NULL, 0 }, { &byte, 1 } };
    assert_ok(conn_writev(&a, iov, 2, &err) == 0, &err);
    byte = 0;
    assert_ok(conn_read(&b, &byte, 1, &err) == 0, &err);
    assert_int_equal(byte, 7);
    close_both();
}

static void the_peer_ends_between(void **state) {
    (void)state;
    connect_both(0);
    struct error err = { 0 };
    uint8_t bytes[4];
    assert_ok(conn_write(&a, "word", 4, &err) == 0, &err);
    conn_close(&a);
    assert_ok(conn_read_or_end(&b, bytes, 4, &err) == 0, &err);
    assert_int_equal(conn_read_or_end(&b, bytes, 4, &err), 1);
    assert_false(error_is_set(&err));
    assert_refused(conn_read(&b, bytes, 4, &err), &err, ERROR_LINK, "b: the other godwit closed");
    close_both();
}

static void the_peer_ends_in_the_middle(void **state) {
    (void)state;
    connect_both(0);
    struct error err = { 0 };
    uint8_t bytes[4];
    assert_ok(conn_write(&a, "wor", 3, &err) == 0, &err);
    conn_close(&a);
    assert_refused(conn_read_or_end(&b, bytes, 4, &err), &err, ERROR_LINK, "closed the connection");
    assert_int_equal(b.received, 3);
    close_both();
}

/* A write to a peer that has gone is an error, not a SIGPIPE. */
static void nobody_reads_any_more(void **state) {
    (void)state;
    connect_both(4096);
    struct error err = { 0 };
    static const uint8_t data[65536];
    conn_close(&b);
    assert_refused(conn_write(&a, data, sizeof(data), &err), &err, ERROR_LINK, "a: the connection");
    close_both();
}

static void break_wakes_a_blocked_reader(void **state) {
    (void)state;
    connect_both(0);
    struct reader r;
    reader_start(&r, 100);
    conn_break(&b);
    pthread_join(r.thread, NULL);
    assert_int_equal(r.rc, -1);
    assert_int_equal(r.err.class, ERROR_LINK);
    assert_true(b.fd >= 0); /* the number is kept until conn_close() */
    free(r.data);
    close_both();
}

static void break_at_the_other_end_wakes_too(void **state) {
    (void)state;
    connect_both(0);
    struct reader r;
    reader_start(&r, 100);
    conn_break(&a);
    pthread_join(r.thread, NULL);
    assert_int_equal(r.rc, -1);
    free(r.data);
    close_both();
}

static void *write_for_ever(void *opaque) {
    static const uint8_t data[100];
    while (conn_write(&a, data, sizeof(data), opaque) == 0) {
    }
    return NULL;
}

static void break_wakes_a_blocked_writer(void **state) {
    (void)state;
    connect_both(4096);
    pthread_t thread;
    struct error err = { 0 };
    assert_int_equal(pthread_create(&thread, NULL, write_for_ever, &err), 0);
    WAIT_FOR(a.sent > 0);
    conn_break(&a);
    pthread_join(thread, NULL);
    assert_int_equal(err.class, ERROR_LINK);
    close_both();
}

static void close_and_break_are_harmless_twice(void **state) {
    (void)state;
    connect_both(0);
    conn_break(&a);
    conn_break(&a);
    conn_close(&a);
    conn_close(&a);
    conn_break(&a);
    assert_int_equal(a.fd, -1);
    close_both();
}

static void all_pieces_count_against_the_limit(void **state) {
    (void)state;
    connect_both(0);
    struct limit l = { 0 };
    struct error err = { 0 };
    uint8_t bytes[30] = { 0 };
    limit_set(&l, 1000000);
    int64_t ahead = clock_now() + CLOCK_MS;
    atomic_store(&l.next_free, ahead); /* later than now, so that the booking begins there */
    a.limit = &l;
    struct iovec iov[2] = { { bytes, 10 }, { bytes + 10, 20 } };
    assert_ok(conn_writev(&a, iov, 2, &err) == 0, &err);
    assert_true(atomic_load(&l.next_free) >= ahead + 30000);
    close_both();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partial_writes),
        cmocka_unit_test(more_pieces_than_the_kernel_takes),
        cmocka_unit_test(nothing_is_a_size_too),
        cmocka_unit_test(the_peer_ends_between),
        cmocka_unit_test(the_peer_ends_in_the_middle),
        cmocka_unit_test(nobody_reads_any_more),
        cmocka_unit_test(break_wakes_a_blocked_reader),
        cmocka_unit_test(break_at_the_other_end_wakes_too),
        cmocka_unit_test(break_wakes_a_blocked_writer),
        cmocka_unit_test(close_and_break_are_harmless_twice),
        cmocka_unit_test(all_pieces_count_against_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
