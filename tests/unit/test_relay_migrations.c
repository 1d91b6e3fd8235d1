/* SPDX-License-Identifier: Apache-2.0 */
/* Which connections belong together. */
#include "relay/migrations.h"
#include "support.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static struct migrations all;

struct one {
    struct carry carry;
    struct member member;
};

static void start(struct one *o) {
    struct error err = { 0 };
    memset(o, 0, sizeof(*o));
    assert_ok(carry_init(&o->carry, CARRY_AT_DESTINATION, &err) == 0, &err);
    o->member.carry = &o->carry;
}

static void join_whose(struct one *o, const char *whose) {
    struct error err = { 0 };
    start(o);
    assert_ok(migrations_join_whose(&all, whose, &o->member, &err) == 0, &err);
}

static int join_session(struct one *o, char session, unsigned number, struct error *err) {
    uint8_t name[SESSION_SIZE];
    start(o);
    memset(name, session, sizeof(name));
    return migrations_join_session(&all, name, number, &o->member, err);
}

static struct migration_end leave(struct one *o, const struct error *why) {
    struct migration_end end;
    migrations_leave(&all, &o->member, why, &end);
    carry_close(&o->carry);
    return end;
}

static int setup(void **state) {
    (void)state;
    migrations_init(&all);
    return 0;
}

static void test_of_one_process(void **state) {
    struct one a, b, c;
    (void)state;
    join_whose(&a, "process 1");
    join_whose(&b, "process 2");
    join_whose(&c, "process 1");
    assert_ptr_equal(a.member.of, c.member.of);
    assert_ptr_not_equal(a.member.of, b.member.of);
    assert_int_equal(a.member.number, 0);
    assert_int_equal(c.member.number, 1);
    assert_memory_not_equal(a.member.of->session, b.member.of->session, SESSION_SIZE);
    c.carry.sent.bytes = 5;
    a.carry.taken.bytes = 7;
    assert_false(leave(&a, NULL).last);
    assert_true(leave(&b, NULL).last);
    struct migration_end end = leave(&c, NULL);
    assert_true(end.last && !error_is_set(&end.failure));
    assert_int_equal(end.streams, 2);
    assert_int_equal(end.bytes, 12);
    assert_null(all.list);
}

/* What comes when one of them has ended is another attempt. */
static void test_another_attempt(void **state) {
    struct error why = { 0 };
    struct one a, b, c, d;
    (void)state;
    error_set(&why, ERROR_LINK, "cut");
    join_whose(&a, "process 1");
    atomic_store(&a.carry.qemu_ended, true); /* its QEMU has closed; it is still carried */
    join_whose(&b, "process 1");
    assert_ptr_not_equal(a.member.of, b.member.of);
    join_whose(&c, "process 1");
    assert_ptr_equal(b.member.of, c.member.of);
    leave(&b, NULL);
    join_whose(&d, "process 1");
    assert_ptr_not_equal(c.member.of, d.member.of);
    c.carry.on_failure(c.carry.opaque, &why); /* of the one that has ended nothing reaches the new one */
    assert_true(c.carry.failed);
    assert_false(d.carry.failed);
    assert_false(a.carry.failed);
    leave(&a, NULL);
    leave(&c, &why);
    assert_true(leave(&d, NULL).last);
    assert_null(all.list);
}

/* The same when that it has closed is not known yet, for nobody has come to read what it said before. */
static void test_another_attempt_at_once(void **state) {
    struct one a, b, c;
    int ends[2];
    (void)state;
    socket_pair(ends, 0);
    join_whose(&a, "process 1");
    carry_set_qemu(&a.carry, ends[1]);
    assert_int_equal(send(ends[0], "last", 4, 0), 4);
    join_whose(&b, "process 1");
    assert_ptr_equal(a.member.of, b.member.of);
    close(ends[0]);
    join_whose(&c, "process 1");
    assert_ptr_not_equal(a.member.of, c.member.of);
    leave(&a, NULL);
    leave(&b, NULL);
    assert_true(leave(&c, NULL).last);
    assert_null(all.list);
}

static void test_fail_together(void **state) {
    struct error why = { 0 }, err = { 0 };
    struct one a, b, c;
    (void)state;
    error_set(&why, ERROR_CORRUPT, "changed");
    assert_ok(join_session(&a, 1, 0, &err) == 0, &err);
    assert_ok(join_session(&b, 1, 1, &err) == 0, &err);
    assert_ok(join_session(&c, 2, 0, &err) == 0, &err);
    b.carry.on_failure(b.carry.opaque, &why); /* before it has left */
    assert_true(a.carry.failed);
    assert_non_null(strstr(a.carry.failure.desc, "another connection of the migration failed: changed"));
    assert_false(c.carry.failed);
    assert_false(leave(&b, &why).last);
    struct migration_end end = leave(&a, &why);
    assert_true(end.last);
    assert_string_equal(end.failure.desc, "changed");
    migrations_fail_all(&all, &why);
    assert_true(c.carry.failed);
    leave(&c, &why);
    assert_null(all.list);
}

static void test_in_turn(void **state) {
    struct error err = { 0 }, why = { 0 };
    struct one a, b;
    (void)state;
    assert_refused(join_session(&a, 1, 1, &err), &err, ERROR_PEER, "out of its turn");
    carry_close(&a.carry);
    assert_ok(join_session(&a, 1, 0, &err) == 0, &err);
    for (unsigned number = 0; number < 4; number++) {
        if (number != 1) {
            assert_refused(join_session(&b, 1, number, &err), &err, ERROR_PEER, "out of its turn");
            carry_close(&b.carry);
        }
    }
    error_set(&why, ERROR_LINK, "cut");
    a.carry.on_failure(a.carry.opaque, &why);
    assert_refused(join_session(&b, 1, 1, &err), &err, ERROR_PEER, "has failed: cut");
    carry_close(&b.carry);
    leave(&a, &why);
}

static struct one first, second;
static _Atomic int turn; /* 1: it has come, -1: it never will */

static void *await_turn(void *opaque) {
    struct error err = { 0 };
    (void)opaque;
    atomic_store(&turn, migrations_await_turn(&all, &second.member, &err) == 0 ? 1 : -1);
    return NULL;
}

/* The second is not opened before the first is, and never when that fails. */
static void test_opened_in_order(void **state) {
    struct error why = { 0 }, err = { 0 };
    (void)state;
    error_set(&why, ERROR_LINK, "cut");
    for (unsigned fails = 0; fails < 2; fails++) {
        pthread_t thread;
        join_whose(&first, "process 1");
        join_whose(&second, "process 1");
        atomic_store(&turn, 0);
        assert_ok(migrations_await_turn(&all, &first.member, &err) == 0, &err);
        pthread_create(&thread, NULL, await_turn, NULL);
        clock_sleep(100 * CLOCK_MS);
        assert_int_equal(atomic_load(&turn), 0);
        if (fails) {
            leave(&first, &why);
        } else {
            migrations_opened(&all, &first.member);
        }
        pthread_join(thread, NULL);
        assert_int_equal(atomic_load(&turn), fails ? -1 : 1);
        if (!fails) {
            leave(&first, NULL);
        }
        leave(&second, fails ? &why : NULL);
    }
    assert_null(all.list);
}

static void test_too_many(void **state) {
    static struct one many[MIGRATION_STREAMS + 1];
    struct error err = { 0 };
    (void)state;
    for (size_t i = 0; i < MIGRATION_STREAMS; i++) {
        join_whose(&many[i], "process 1");
    }
    start(&many[MIGRATION_STREAMS]);
    assert_refused(migrations_join_whose(&all, "process 1", &many[MIGRATION_STREAMS].member, &err), &err, ERROR_REFUSED,
                   "more than");
    carry_close(&many[MIGRATION_STREAMS].carry);
    for (size_t i = 0; i < MIGRATION_STREAMS; i++) {
        assert_true(leave(&many[i], NULL).last == (i == MIGRATION_STREAMS - 1));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_of_one_process, setup),
        cmocka_unit_test_setup(test_another_attempt, setup),
        cmocka_unit_test_setup(test_fail_together, setup),
        cmocka_unit_test_setup(test_in_turn, setup),
        cmocka_unit_test_setup(test_opened_in_order, setup),
        cmocka_unit_test_setup(test_too_many, setup),
        cmocka_unit_test_setup(test_another_attempt_at_once, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
