/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection carried: a QEMU, a relay, a link, a relay, a QEMU, all of them sockets of this test.
 *
 *   here ═ source's carry ═ link ═ destination's carry ═ there
 */
#include "relay/carry.h"
#include "relay/post.h"
#include "support.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE ((size_t)5 << 20)
#define SILENCE (2 * CLOCK_S)

static int64_t silence = SILENCE;

struct side {
    struct carry carry;
    pthread_t thread;
    int qemu; /* our end */
    int rc;
    struct error err;
};

static struct side source, destination;
static uint8_t sent[SIZE], back[SIZE];

static void *run(void *opaque) {
    struct side *s = opaque;
    s->rc = carry_run(&s->carry, silence, &s->err);
    return NULL;
}

/* `qemu` -1: the test has none. */
static void start_with(struct side *s, enum carry_side which, int wire, int qemu, int relay) {
    *s = (struct side){ .rc = 1, .qemu = qemu };
    assert_ok(carry_init(&s->carry, which, &s->err) == 0, &s->err);
    carry_set_qemu(&s->carry, relay);
    conn_init(&s->carry.wire, wire, "link");
    assert_int_equal(pthread_create(&s->thread, NULL, run, s), 0);
}

static void start(struct side *s, enum carry_side which, int wire) {
    int ends[2];
    socket_pair(ends, 0);
    start_with(s, which, wire, ends[0], ends[1]);
}

/* Nobody waits for long. */
static void set_limit(int fd) {
    const struct timeval limit = { .tv_sec = 30 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

static void start_both(void) {
    int link[2];
    socket_pair(link, 0);
    start(&source, CARRY_AT_SOURCE, link[0]);
    start(&destination, CARRY_AT_DESTINATION, link[1]);
    set_limit(source.qemu);
    set_limit(destination.qemu);
}

static void join(struct side *s) {
    pthread_join(s->thread, NULL);
    carry_close(&s->carry);
    if (s->qemu >= 0) {
        close(s->qemu);
    }
}

static void hang_up(struct side *s) {
    close(s->qemu);
    s->qemu = -1;
}

struct flow {
    int fd;
    uint8_t *data;
    size_t size;
    _Atomic size_t done;
};

static void *write_all(void *opaque) {
    struct flow *f = opaque;
    for (ssize_t n; f->done < f->size && (n = send(f->fd, f->data + f->done, f->size - f->done, MSG_NOSIGNAL)) > 0;) {
        f->done += (size_t)n;
    }
    return NULL;
}

/* Bytes up to the end of the stream. */
static size_t read_all(int fd, uint8_t *data, size_t size) {
    size_t done = 0;
    for (ssize_t n; done < size && (n = recv(fd, data + done, size - done, 0)) > 0;) {
        done += (size_t)n;
    }
    return done;
}

static void fill(void) {
    uint64_t chance = 5;
    random_fill(&chance, sent, sizeof(sent));
    memset(back, 0, sizeof(back));
}

static void expect_failure(struct side *s, enum error_class class, const char *text) {
    assert_int_equal(s->rc, -1);
    expect_error(&s->err, class, text, "carry_run");
}

static void test_there_and_back(void **state) {
    (void)state;
    fill();
    start_both();
    struct flow out = { source.qemu, sent, SIZE, 0 };
    pthread_t writer;
    pthread_create(&writer, NULL, write_all, &out);
    assert_int_equal(recv(destination.qemu, back, SIZE, MSG_WAITALL), SIZE);
    pthread_join(writer, NULL);
    assert_memory_equal(sent, back, SIZE);
    assert_int_equal(send(destination.qemu, "pong", 4, 0), 4);
    assert_int_equal(recv(source.qemu, back, 4, MSG_WAITALL), 4);
    assert_memory_equal(back, "pong", 4);
    hang_up(&source);
    assert_int_equal(recv(destination.qemu, back, 1, 0), 0);
    hang_up(&destination);
    join(&source);
    join(&destination);
    assert_int_equal(source.rc, 0);
    assert_int_equal(destination.rc, 0);
}

/* Neither QEMU reads before it has written all: the other direction must not wait for that. */
static void test_both_ways_at_once(void **state) {
    (void)state;
    fill();
    start_both();
    struct flow there = { source.qemu, sent, SIZE, 0 }, here = { destination.qemu, sent, SIZE, 0 };
    pthread_t writers[2];
    pthread_create(&writers[0], NULL, write_all, &there);
    clock_sleep(100 * CLOCK_MS);
    pthread_create(&writers[1], NULL, write_all, &here);
    assert_int_equal(recv(source.qemu, back, SIZE, MSG_WAITALL), SIZE); /* while the way there is full */
    assert_memory_equal(sent, back, SIZE);
    assert_true(there.done < SIZE);
    assert_int_equal(recv(destination.qemu, back, SIZE, MSG_WAITALL), SIZE);
    pthread_join(writers[0], NULL);
    pthread_join(writers[1], NULL);
    hang_up(&source);
    hang_up(&destination);
    join(&source);
    join(&destination);
    assert_int_equal(source.rc | destination.rc, 0);
}

/* A QEMU that ends its own direction alone, and one that is silent for longer than a relay may be. */
static void test_half_close_and_silence(void **state) {
    (void)state;
    start_both();
    assert_int_equal(send(source.qemu, "last", 4, 0), 4);
    shutdown(source.qemu, SHUT_WR);
    assert_int_equal(read_all(destination.qemu, back, 100), 4);
    clock_sleep(SILENCE + CLOCK_S);
    assert_int_equal(send(destination.qemu, "shut", 4, 0), 4);
    hang_up(&destination);
    assert_int_equal(read_all(source.qemu, back, 100), 4);
    join(&source);
    join(&destination);
    assert_int_equal(source.rc | destination.rc, 0);
}

/* The source's QEMU closes with answers unread: what it said is given out all the same. */
static void test_source_that_does_not_listen(void **state) {
    (void)state;
    fill();
    start_both();
    assert_int_equal(send(destination.qemu, sent, 1000, 0), 1000);
    clock_sleep(200 * CLOCK_MS);
    struct flow out = { source.qemu, sent, 100000, 0 };
    write_all(&out);
    hang_up(&source);
    assert_int_equal(send(destination.qemu, sent, 1000, 0), 1000);
    assert_int_equal(read_all(destination.qemu, back, SIZE), 100000);
    assert_memory_equal(sent, back, 100000);
    hang_up(&destination);
    join(&source);
    join(&destination);
    assert_int_equal(source.rc | destination.rc, 0);
}

/* The destination's QEMU is gone: the source's sees an error although nobody read what it wrote. */
static void test_destination_that_dies(void **state) {
    (void)state;
    fill();
    start_both();
    assert_int_equal(send(source.qemu, sent, 100, 0), 100);
    assert_int_equal(recv(destination.qemu, back, 100, MSG_WAITALL), 100);
    hang_up(&destination);
    struct flow out = { source.qemu, sent, SIZE, 0 };
    write_all(&out);
    assert_true(out.done < SIZE);
    join(&source);
    join(&destination);
    expect_failure(&destination, ERROR_VMM, "takes no more");
    expect_failure(&source, ERROR_PEER, "takes no more");
}

/* What is no end of QEMU's ends both sides, and is not told as one: here what a socket says that never was connected.
 */
static void test_an_error_is_no_end(void **state) {
    (void)state;
    int link[2];
    socket_pair(link, 0);
    start(&destination, CARRY_AT_DESTINATION, link[1]);
    start_with(&source, CARRY_AT_SOURCE, link[0], -1, socket(AF_UNIX, SOCK_STREAM, 0));
    join(&source);
    join(&destination);
    expect_failure(&source, ERROR_VMM, "cannot read");
    expect_failure(&destination, ERROR_PEER, "cannot read");
}

/* A source's QEMU that does not listen has closed; another error is one: here what a datagram's socket says. */
static void test_an_error_is_not_deaf(void **state) {
    (void)state;
    struct error err = { 0 };
    struct tally t;
    struct conn c;
    int link[2], ends[2];
    uint8_t *data = calloc(1, PACKET_MOST);
    fill();
    socket_pair(link, 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    int small = 4096;
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    start_with(&source, CARRY_AT_SOURCE, link[0], ends[0], ends[1]);
    conn_init(&c, link[1], "link");
    assert_ok(tally_open(&t, &err) == 0, &err);
    assert_ok(post_data(&c, &t, data, PACKET_MOST, false, &err) == 0, &err);
    join(&source);
    expect_failure(&source, ERROR_VMM, "takes no more");
    tally_close(&t);
    conn_close(&c);
    free(data);
}

/* A byte that changes on the way is given to nobody, nor is anything behind it; both QEMUs are cut off. */
static void test_a_changed_byte(void **state) {
    static const char *const sides[] = { "source", "destination" };
    (void)state;
    fill();
    for (unsigned i = 0; i < COUNT(sides); i++) {
        char plan[64];
        snprintf(plan, sizeof(plan), "corrupt-carried@%s=2", sides[i]);
        setenv("GODWIT_FAULT", plan, 1);
        start_both();
        struct side *from = i == 0 ? &source : &destination, *to = i == 0 ? &destination : &source;
        assert_int_equal(send(from->qemu, sent, 100, 0), 100);
        assert_int_equal(recv(to->qemu, back, 100, MSG_WAITALL), 100);
        assert_int_equal(send(from->qemu, sent, 100, 0), 100);
        assert_int_equal(read_all(to->qemu, back, 1000), 0);
        assert_int_equal(read_all(from->qemu, back, 1000), 0);
        join(&source);
        join(&destination);
        unsetenv("GODWIT_FAULT");
        expect_failure(to, ERROR_CORRUPT, "between bytes 100 and 200");
        expect_failure(from, ERROR_PEER, "between bytes 100 and 200");
    }
}

static void test_link_that_breaks(void **state) {
    (void)state;
    start_both();
    assert_int_equal(send(source.qemu, sent, 100, 0), 100);
    assert_int_equal(recv(destination.qemu, back, 100, MSG_WAITALL), 100);
    shutdown(source.carry.wire.fd, SHUT_RDWR);
    assert_int_equal(read_all(destination.qemu, back, 100), 0);
    assert_int_equal(read_all(source.qemu, back, 100), 0);
    join(&source);
    join(&destination);
    expect_failure(&source, ERROR_LINK, NULL);
    expect_failure(&destination, ERROR_LINK, NULL);
}

static void test_owner_that_fails_it(void **state) {
    struct error why = { 0 };
    (void)state;
    start_both();
    error_set(&why, ERROR_CANCELLED, "enough");
    carry_fail(&source.carry, &why);
    assert_int_equal(read_all(destination.qemu, back, 100), 0);
    join(&source);
    join(&destination);
    expect_failure(&source, ERROR_CANCELLED, "enough");
    expect_failure(&destination, ERROR_PEER, "enough");
}

/* ---- another relay that is not one ---- */

static int start_alone(void) {
    int link[2];
    socket_pair(link, 0);
    start(&destination, CARRY_AT_DESTINATION, link[1]);
    set_limit(destination.qemu);
    return link[0];
}

static void test_relay_that_says_nothing(void **state) {
    (void)state;
    for (size_t some = 0; some <= 10; some += 10) { /* bytes of a packet */
        int link = start_alone();
        int64_t begin = clock_now();
        assert_int_equal(send(link, sent, some, 0), some);
        assert_int_equal(read_all(destination.qemu, back, 100), 0);
        assert_in_range(clock_now() - begin, SILENCE - CLOCK_S, SILENCE + 5 * CLOCK_S);
        join(&destination);
        expect_failure(&destination, ERROR_LINK, "said nothing for too long");
        close(link);
    }
}

/* Another connection's link broke, and this one's is whole: its other relay hears why. */
static void test_a_broken_link_of_another(void **state) {
    struct error why = { 0 }, err = { 0 };
    struct packet p = { 0 };
    struct tally t;
    struct conn c;
    (void)state;
    int link = start_alone();
    conn_init(&c, link, "link");
    assert_ok(tally_open(&t, &err) == 0, &err);
    error_set(&why, ERROR_LINK, "another broke");
    carry_fail(&destination.carry, &why);
    while (post_take(&c, &t, &p, back, &err) == 0) {
    }
    expect_error(&err, ERROR_PEER, "another broke", "post_take");
    tally_close(&t);
    conn_close(&c);
    join(&destination);
    expect_failure(&destination, ERROR_LINK, "another broke");
}

/* The other relay neither says nor takes anything: when we fail we do not wait for it. */
static void test_failure_while_the_other_hangs(void **state) {
    struct error why = { 0 };
    (void)state;
    silence = 30 * CLOCK_S;
    int link = start_alone();
    fill();
    struct flow out = { destination.qemu, sent, SIZE, 0 };
    pthread_t writer;
    pthread_create(&writer, NULL, write_all, &out);
    clock_sleep(200 * CLOCK_MS);
    error_set(&why, ERROR_CANCELLED, "enough");
    int64_t begin = clock_now();
    carry_fail(&destination.carry, &why);
    pthread_join(destination.thread, NULL);
    assert_true(clock_now() - begin < 10 * CLOCK_S);
    pthread_join(writer, NULL);
    silence = SILENCE;
    carry_close(&destination.carry);
    close(destination.qemu);
    close(link);
    expect_failure(&destination, ERROR_CANCELLED, "enough");
}

/* Every bit of a packet, flipped: nothing of it is given out. */
static void test_every_bit(void **state) {
    (void)state;
    uint8_t packet[PACKET_HEADER_SIZE + 16];
    for (size_t bit = 0; bit < 8 * sizeof(packet); bit++) {
        struct tally t;
        struct error err = { 0 };
        int link = start_alone();
        memset(packet + PACKET_HEADER_SIZE, 'a', 16);
        assert_ok(tally_open(&t, &err) == 0, &err);
        tally_add(&t, packet + PACKET_HEADER_SIZE, 16);
        struct packet p = { .kind = PACKET_DATA, .size = 16, .position = 16 };
        tally_digest(&t, p.digest);
        tally_close(&t);
        packet_encode(&p, packet);
        packet[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(send(link, packet, sizeof(packet), 0), sizeof(packet));
        shutdown(link, SHUT_WR);
        assert_int_equal(read_all(destination.qemu, back, 100), 0);
        close(link);
        join(&destination);
        expect_failure(&destination, ERROR_CORRUPT, NULL);
    }
}

/* A stream is over when its END has come, and an END that does not know all of it is none. */
static void test_ends(void **state) {
    (void)state;
    struct {
        bool data_first, wrong, twice;
        enum error_class class;
    } cases[] = {
        { false, true, false, ERROR_CORRUPT },
        { true, true, false, ERROR_CORRUPT },
        { true, false, true, ERROR_PEER },
        { true, false, false, ERROR_LINK }, /* it closes before it has heard our END */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct tally t;
        struct conn c;
        struct error err = { 0 };
        int link = start_alone();
        conn_init(&c, link, "link");
        assert_ok(tally_open(&t, &err) == 0, &err);
        if (cases[i].data_first) {
            assert_ok(post_data(&c, &t, sent, 50, false, &err) == 0, &err);
            assert_int_equal(recv(destination.qemu, back, 50, MSG_WAITALL), 50);
        }
        if (cases[i].wrong) {
            tally_add(&t, sent, 1);
        }
        for (int n = cases[i].twice ? 2 : 1; n > 0; n--) {
            assert_ok(post_word(&c, PACKET_END, &t, NULL, &err) == 0, &err);
        }
        if (!cases[i].wrong && !cases[i].twice) {
            shutdown(link, SHUT_WR);
        }
        assert_int_equal(read_all(destination.qemu, back, 100), 0);
        tally_close(&t);
        join(&destination);
        conn_close(&c);
        expect_failure(&destination, cases[i].class, NULL);
    }
}

/* When both have ended the link may break, but a failure that is told on it, or a wrong digest, is one. */
static void test_a_failure_behind_both_ends(void **state) {
    static const struct {
        enum packet_kind kind;
        bool wrong;
        int rc;
        enum error_class class;
    } cases[] = {
        { PACKET_ABORT, false, -1, ERROR_PEER },
        { PACKET_ALIVE, true, -1, ERROR_CORRUPT },
        { PACKET_ALIVE, false, 0, ERROR_NONE },
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct tally t;
        struct conn c;
        struct error err = { 0 };
        uint8_t header[PACKET_HEADER_SIZE];
        struct packet p = { 0 };
        int link = start_alone();
        conn_init(&c, link, "link");
        assert_ok(tally_open(&t, &err) == 0, &err);
        assert_ok(post_word(&c, PACKET_END, &t, NULL, &err) == 0, &err);
        hang_up(&destination);
        while (p.kind != PACKET_END) {
            assert_ok(conn_read(&c, header, sizeof(header), &err) == 0 && packet_decode(header, &p, &err) == 0, &err);
        }
        if (cases[i].wrong) {
            tally_add(&t, sent, 1);
        }
        assert_ok(post_word(&c, cases[i].kind, &t, cases[i].kind == PACKET_ABORT ? "too bad" : NULL, &err) == 0, &err);
        shutdown(link, SHUT_WR);
        tally_close(&t);
        join(&destination);
        conn_close(&c);
        assert_int_equal(destination.rc, cases[i].rc);
        assert_int_equal(destination.err.class, cases[i].class);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_both_ways_at_once),
        cmocka_unit_test(test_half_close_and_silence),
        cmocka_unit_test(test_source_that_does_not_listen),
        cmocka_unit_test(test_destination_that_dies),
        cmocka_unit_test(test_an_error_is_no_end),
        cmocka_unit_test(test_an_error_is_not_deaf),
        cmocka_unit_test(test_a_changed_byte),
        cmocka_unit_test(test_link_that_breaks),
        cmocka_unit_test(test_owner_that_fails_it),
        cmocka_unit_test(test_relay_that_says_nothing),
        cmocka_unit_test(test_a_broken_link_of_another),
        cmocka_unit_test(test_failure_while_the_other_hangs),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_a_failure_behind_both_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
