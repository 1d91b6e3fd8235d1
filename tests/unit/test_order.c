/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/order.h"
#include "support.h"

static struct order order;

/* A channel that wants to place something of `pass`. */
struct entrant {
    unsigned channel;
    uint32_t pass;
    pthread_t thread;
    _Atomic int rc; /* 1: not yet through */
    struct error err;
};

static void *enter(void *opaque) {
    struct entrant *e = opaque;
    atomic_store(&e->rc, order_enter(&order, e->channel, e->pass, &e->err));
    return NULL;
}

static void entrant_start(struct entrant *e, unsigned channel, uint32_t pass) {
    *e = (struct entrant){ .channel = channel, .pass = pass, .rc = 1 };
    assert_int_equal(pthread_create(&e->thread, NULL, enter, e), 0);
}

static void open_order(unsigned channels) {
    struct error err = { 0 };
    assert_ok(order_init(&order, channels, &err) == 0, &err);
}

static void enter_now(unsigned channel, uint32_t pass) {
    struct error err = { 0 };
    assert_ok(order_enter(&order, channel, pass, &err) == 0, &err);
}

static void leave(unsigned channel, uint32_t pass) {
    struct error err = { 0 };
    assert_ok(order_leave(&order, channel, pass, &err) == 0, &err);
}

static void the_first_pass_waits_for_nobody(void **state) {
    (void)state;
    open_order(3);
    assert_int_equal(order_placed(&order), 0);
    for (unsigned i = 0; i < 3; i++) {
        enter_now(i, 1);
        enter_now(i, 1); /* frame by frame */
        leave(i, 1);
        assert_int_equal(order_placed(&order), i == 2 ? 1 : 0);
    }
    order_destroy(&order);
}

static void the_next_pass_waits_for_all(void **state) {
    (void)state;
    open_order(3);
    leave(0, 1);
    struct entrant e;
    entrant_start(&e, 0, 2);
    leave(1, 1);
    leave(1, 2); /* carried nothing in it: that does not make pass 1 of channel 2 complete */
    clock_sleep(20 * CLOCK_MS);
    assert_int_equal(atomic_load(&e.rc), 1);
    assert_int_equal(order_placed(&order), 0);
    leave(2, 1);
    pthread_join(e.thread, NULL);
    assert_ok(e.rc == 0, &e.err);
    assert_int_equal(order_placed(&order), 1);
    leave(0, 2);
    assert_int_equal(order_placed(&order), 1);
    leave(2, 2);
    assert_int_equal(order_placed(&order), 2);
    order_destroy(&order);
}

static void without_order_nobody_waits(void **state) {
    (void)state;
    setenv("GODWIT_FAULT", "no-order", 1);
    open_order(2);
    leave(0, 1);
    enter_now(0, 2); /* channel 1 has not placed its pass 1 */
    unsetenv("GODWIT_FAULT");
    order_destroy(&order);
}

static void another_pass_than_the_next_is_refused(void **state) {
    (void)state;
    struct error err = { 0 };
    open_order(2);
    static const uint32_t wrong_first[] = { 0, 2, 3, UINT32_MAX };
    for (size_t i = 0; i < COUNT(wrong_first); i++) {
        assert_refused(order_enter(&order, 0, wrong_first[i], &err), &err, ERROR_PEER, "channel 0 carries pass");
        assert_refused(order_leave(&order, 0, wrong_first[i], &err), &err, ERROR_PEER, "channel 0 carries pass");
    }
    leave(0, 1);
    leave(0, 2);
    static const uint32_t wrong_third[] = { 0, 1, 2, 4 };
    for (size_t i = 0; i < COUNT(wrong_third); i++) {
        assert_refused(order_enter(&order, 0, wrong_third[i], &err), &err, ERROR_PEER, "after pass 2");
        assert_refused(order_leave(&order, 0, wrong_third[i], &err), &err, ERROR_PEER, "after pass 2");
    }
    assert_int_equal(order_placed(&order), 0); /* channel 1 still has pass 1 before it */
    order_destroy(&order);
}

static void no_pass_comes_after_the_last_number(void **state) {
    (void)state;
    struct error err = { 0 };
    open_order(1);
    order.placed[0] = UINT32_MAX;
    assert_refused(order_enter(&order, 0, 0, &err), &err, ERROR_PEER, NULL);
    order_destroy(&order);
}

static void breaking_off_wakes_all(void **state) {
    (void)state;
    open_order(4);
    struct entrant e[3];
    for (unsigned i = 0; i < 3; i++) {
        leave(i, 1);
    }
    for (unsigned i = 0; i < 3; i++) {
        entrant_start(&e[i], i, 2);
    }
    order_break(&order);
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(e[i].thread, NULL);
        assert_int_equal(atomic_load(&e[i].rc), -1);
        assert_int_equal(e[i].err.class, ERROR_CANCELLED);
    }
    struct error err = { 0 };
    assert_refused(order_enter(&order, 3, 1, &err), &err, ERROR_CANCELLED, NULL); /* nothing is placed from now on */
    order_destroy(&order);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_pass_waits_for_nobody),     cmocka_unit_test(the_next_pass_waits_for_all),
        cmocka_unit_test(without_order_nobody_waits),          cmocka_unit_test(another_pass_than_the_next_is_refused),
        cmocka_unit_test(no_pass_comes_after_the_last_number), cmocka_unit_test(breaking_off_wakes_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
