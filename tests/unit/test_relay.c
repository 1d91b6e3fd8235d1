/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/relay.h"
#include "support.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE ((size_t)700 << 10)

static uint8_t sent[SIZE], got[SIZE + 16];

/* Leaves every 'x' out, refuses a '!', and ends with what it is told. */
struct without_x {
    struct vmm_filter filter;
    const char *end;
    unsigned *closed;
};

static int feed(struct vmm_filter *f, const uint8_t *data, size_t size, const struct vmm_sink *sink,
                struct error *err) {
    atomic_fetch_add(&f->counts.in, size);
    for (size_t i = 0, n; i < size; i += n + 1) {
        for (n = 0; i + n < size && data[i + n] != 'x' && data[i + n] != '!'; n++) {
        }
        if (n > 0 && sink->take(sink->opaque, data + i, n, err) < 0) {
            return -1;
        }
        if (i + n < size && data[i + n] == '!') {
            return error_set(err, ERROR_VMM, "this cannot pass");
        }
    }
    return 0;
}

static int finish(struct vmm_filter *f, const struct vmm_sink *sink, struct error *err) {
    const char *end = ((struct without_x *)f)->end;
    return sink->take(sink->opaque, (const uint8_t *)end, strlen(end), err);
}

static void close_filter(struct vmm_filter *f) {
    ++*((struct without_x *)f)->closed;
    free(f);
}

static const struct vmm_filter_ops ops = { .feed = feed, .finish = finish, .close = close_filter };

static unsigned closed;

static struct vmm_filter *filter(void) {
    struct without_x *x = calloc(1, sizeof(*x));
    *x = (struct without_x){ .filter.ops = &ops, .end = "the end", .closed = &closed };
    closed = 0;
    return &x->filter;
}

struct line {
    struct relay relay;
    int in, out; /* our ends */
};

static void start(struct line *l, struct vmm_filter *f) {
    struct error err = { 0 };
    int a[2], b[2];
    *l = (struct line){ 0 };
    socket_pair(a, 0);
    socket_pair(b, 0);
    l->in = a[0];
    l->out = b[0];
    assert_ok(relay_start(&l->relay, a[1], b[1], f, &err) == 0, &err);
}

static void end_of(struct line *l) {
    relay_stop(&l->relay);
    close(l->in);
    close(l->out);
}

/* Writes `size` bytes and reads what comes meanwhile, until the end; returns how much that was. */
static size_t carry(struct line *l, size_t size) {
    size_t at = 0, n = 0;
    for (;;) {
        struct pollfd p[2] = { { l->in, at < size ? POLLOUT : 0, 0 }, { l->out, POLLIN, 0 } };
        assert_true(poll(p, 2, 40000) > 0);
        if (at < size && p[0].revents != 0) {
            ssize_t k = send(l->in, sent + at, size - at, MSG_NOSIGNAL | MSG_DONTWAIT);
            assert_true(k > 0 || errno == EPIPE || errno == ECONNRESET);
            at = k > 0 ? at + (size_t)k : size;
            if (at == size) {
                shutdown(l->in, SHUT_WR);
            }
        }
        if (p[1].revents != 0) {
            ssize_t k = recv(l->out, got + n, sizeof(got) - n, 0);
            assert_true(k >= 0);
            if (k == 0) {
                break;
            }
            n += (size_t)k;
        }
    }
    WAIT_FOR(atomic_load(&l->relay.ended));
    return n;
}

static void fill(void) {
    for (size_t i = 0; i < SIZE; i++) {
        sent[i] = (uint8_t)('a' + i % 7);
    }
}

static void without_a_filter_all_passes(void **state) {
    (void)state;
    struct line l;
    struct error err = { 0 };
    fill();
    start(&l, NULL);
    assert_int_equal(carry(&l, SIZE), SIZE);
    assert_memory_equal(got, sent, SIZE);
    assert_int_equal(atomic_load(&l.relay.bytes), SIZE);
    assert_ok(relay_result(&l.relay, &err) == 0, &err);
    assert_false(relay_broke(&l.relay));
    end_of(&l);
}

static void a_filter_says_what_passes(void **state) {
    (void)state;
    struct line l;
    struct error err = { 0 };
    fill();
    memset(sent + 1000, 'x', 500000);
    start(&l, filter());
    size_t n = SIZE - 500000;
    assert_int_equal(carry(&l, SIZE), n + strlen("the end"));
    assert_memory_equal(got, sent, 1000);
    assert_memory_equal(got + 1000, sent + 501000, n - 1000);
    assert_memory_equal(got + n, "the end", strlen("the end"));
    assert_int_equal(atomic_load(&l.relay.bytes), n + strlen("the end")); /* what went over the wire */
    assert_int_equal(atomic_load(&l.relay.filter->counts.in), SIZE);
    assert_ok(relay_result(&l.relay, &err) == 0, &err);
    assert_int_equal(closed, 0); /* its counts are still read */
    end_of(&l);
    assert_int_equal(closed, 1);
}

static void a_filter_breaks_it_off(void **state) {
    (void)state;
    struct line l;
    struct error err = { 0 };
    fill();
    sent[300000] = '!';
    start(&l, filter());
    assert_int_equal(carry(&l, SIZE), 300000);
    assert_true(relay_broke(&l.relay));
    assert_refused(relay_result(&l.relay, &err), &err, ERROR_VMM, "this cannot pass");
    end_of(&l);
    assert_int_equal(closed, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_filter_all_passes),
        cmocka_unit_test(a_filter_says_what_passes),
        cmocka_unit_test(a_filter_breaks_it_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
