/* SPDX-License-Identifier: Apache-2.0 */
/* What ends a wait of the QMP client before its own timeout: the owner's deadline, and what the owner watches. */
#include "qmp_server.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void serve_first_late(struct server *s) {
    char first[64], second[64], name[64];
    hear(s, name, first);
    hear(s, name, second);
    answer(s, first, "\"late\"");
    answer(s, second, "\"right\"");
    answer_all(s);
}

static void check_next_is_right(struct qmp *q) {
    struct error err = { 0 };
    json_t *ret = NULL;
    assert_int_equal(qmp_execute(q, "next", NULL, &ret, LONG, &err), 0);
    assert_string_equal(json_string_value(ret), "right");
    json_decref(ret);
}

static void test_deadline(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    struct qmp *q = begin(&s, serve_first_late);
    int64_t start = clock_now();
    qmp_set_deadline(q, start + SHORT);
    assert_int_equal(qmp_execute(q, "slow", NULL, NULL, LONG, &err), -1);
    assert_int_equal(err.class, ERROR_TIMEOUT);
    assert_string_equal(err.desc, "QEMU did not answer slow before the stop limit was over (stop-limit)");
    assert_in_range((uint64_t)(clock_now() - start), SHORT, LONG / 2);
    error_clear(&err);
    /* past it nothing is begun, and nobody waits */
    assert_int_equal(qmp_execute(q, "more", NULL, NULL, LONG, &err), -1);
    assert_int_equal(err.class, ERROR_TIMEOUT);
    assert_string_equal(err.desc, "more was not sent to QEMU: the stop limit was over (stop-limit)");
    error_clear(&err);
    assert_int_equal(qmp_wait_event(q, LONG, &err), 0);
    assert_in_range((uint64_t)(clock_now() - start), SHORT, LONG / 2);
    qmp_set_deadline(q, INT64_MAX);
    check_next_is_right(q);
    finish(&s, q);
}

static void test_deadline_of_a_deaf_monitor(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    char *big = calloc(1, 4 << 20);
    memset(big, 'a', (4 << 20) - 1);
    struct qmp *q = begin(&s, serve_deaf);
    qmp_set_deadline(q, clock_now() + SHORT);
    assert_int_equal(qmp_execute(q, "x", json_pack("{s:s}", "a", big), NULL, LONG, &err), -1);
    assert_int_equal(err.class, ERROR_TIMEOUT);
    assert_string_equal(err.desc, "QEMU did not take x before the stop limit was over (stop-limit)");
    error_clear(&err);
    atomic_store(&s.may_read, true);
    assert_int_equal(qmp_resync(q, LONG, &err), -1);
    assert_int_equal(err.class, ERROR_TIMEOUT);
    error_clear(&err);
    qmp_set_deadline(q, clock_now() + LONG);
    assert_int_equal(qmp_resync(q, LONG, &err), 0);
    assert_int_equal(qmp_execute(q, "y", NULL, NULL, LONG, &err), 0);
    free(big);
    finish(&s, q);
}

static void *raise_flag(void *opaque) {
    const int *fd = opaque;
    clock_sleep(SHORT / 2);
    assert_int_equal(write(*fd, "x", 1), 1);
    return NULL;
}

static void test_called_off(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    int ends[2];
    pthread_t thread;
    assert_int_equal(pipe(ends), 0);
    struct qmp *q = begin(&s, serve_first_late);
    struct vmm_watch watch = { .fds = { ends[0] }, .fd_count = 1 };
    qmp_set_watch(q, &watch);
    int64_t start = clock_now();
    assert_int_equal(pthread_create(&thread, NULL, raise_flag, &ends[1]), 0);
    assert_int_equal(qmp_execute(q, "slow", NULL, NULL, LONG, &err), -1);
    assert_int_equal(err.class, ERROR_CANCELLED);
    assert_string_equal(err.desc, "slow: called off while QEMU was waited for");
    assert_true(clock_now() - start < LONG / 2);
    error_clear(&err);
    /* it is readable still: nothing is begun, but for what must be */
    assert_int_equal(qmp_execute(q, "more", NULL, NULL, LONG, &err), -1);
    assert_string_equal(err.desc, "called off before more was sent to QEMU");
    error_clear(&err);
    assert_int_equal(qmp_wait_event(q, LONG, &err), -1);
    error_clear(&err);
    assert_false(qmp_shield(q, true));
    check_next_is_right(q);
    assert_true(qmp_shield(q, false));
    qmp_set_watch(q, NULL);
    assert_int_equal(qmp_execute(q, "again", NULL, NULL, LONG, &err), 0);
    pthread_join(thread, NULL);
    close(ends[0]);
    close(ends[1]);
    finish(&s, q);
}

struct ticks {
    int count, enough; /* 0: never enough */
};

static int count_tick(void *opaque, struct error *err) {
    struct ticks *t = opaque;
    return ++t->count == t->enough ? error_set(err, ERROR_LINK, "the owner has had enough") : 0;
}

static void test_ticks(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    struct ticks ticks = { .enough = 3 };
    struct vmm_watch watch = { .tick = count_tick, .opaque = &ticks };
    struct qmp *q = begin(&s, serve_first_late);
    qmp_set_watch(q, &watch);
    int64_t start = clock_now();
    assert_int_equal(qmp_execute(q, "slow", NULL, NULL, LONG, &err), -1);
    assert_string_equal(err.desc, "the owner has had enough");
    assert_int_equal(ticks.count, 3);
    assert_true(clock_now() - start < 5 * CLOCK_S); /* three in a second, on an idle machine */
    error_clear(&err);
    ticks = (struct ticks){ 0 };
    assert_int_equal(qmp_wait_event(q, 6 * SHORT, &err), 0);
    assert_true(ticks.count >= 2);
    /* shielded it is called too, and its word does not count */
    ticks = (struct ticks){ .enough = 1 };
    qmp_shield(q, true);
    check_next_is_right(q);
    finish(&s, q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_deadline_of_a_deaf_monitor),
        cmocka_unit_test(test_called_off),
        cmocka_unit_test(test_ticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
