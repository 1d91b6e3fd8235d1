/* SPDX-License-Identifier: Apache-2.0 */
#include "host/cpuset.h"
#include "support.h"

#include <pthread.h>

static void lists_are_read_and_written(void **state) {
    (void)state;
    const struct {
        const char *text, *written;
        unsigned count;
    } cases[] = {
        { "0", "0", 1 },       { "0-3,8", "0-3,8", 5 },  { "8,0-3", "0-3,8", 5 }, { "1,2,3", "1-3", 3 },
        { "5-5", "5", 1 },     { "0-3,2-9", "0-9", 10 }, { "63,64", "63-64", 2 }, { "0-8191", "0-8191", 8192 },
        { "8191", "8191", 1 }, { "0007", "7", 1 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct cpuset set;
        struct error err = { 0 };
        char text[CPUSET_TEXT];
        assert_ok(cpuset_parse(cases[i].text, &set, &err) == 0, &err);
        assert_int_equal(cpuset_count(&set), cases[i].count);
        assert_string_equal(cpuset_format(&set, text, sizeof(text)), cases[i].written);
    }
}

static void what_is_no_list_is_refused(void **state) {
    (void)state;
    const char *cases[] = { "",
                            ",",
                            "0,",
                            ",0",
                            "0,,1",
                            "a",
                            "-1",
                            "3-1",
                            "0-",
                            "0-3-5",
                            "0x1",
                            "0 1",
                            " 0",
                            "0 ",
                            "0\n",
                            "+1",
                            "1;2",
                            "8192",
                            "0-8192",
                            "18446744073709551616",
                            "18446744073709551615",
                            "0-31:2/4" };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct cpuset set = { .bits = { 5 } };
        struct error err = { 0 };
        assert_refused(cpuset_parse(cases[i], &set, &err), &err, ERROR_USAGE, NULL);
        assert_int_equal(set.bits[0], 5);
        assert_int_equal(cpuset_count(&set), 2);
    }
}

static void a_long_list_is_cut_at_a_comma(void **state) {
    (void)state;
    struct cpuset set;
    struct error err = { 0 };
    assert_ok(cpuset_parse("10,20,30,40,50", &set, &err) == 0, &err);
    char text[16];
    assert_string_equal(cpuset_format(&set, text, 15), "10,20,30,...");
    assert_string_equal(cpuset_format(&set, text, 8), "10,...");
    for (size_t size = 8; size <= sizeof(text); size++) {
        char exact[16];
        memset(exact, 'x', sizeof(exact));
        cpuset_format(&set, exact, size);
        assert_non_null(memchr(exact, '\0', size));
    }
    memset(&set, 0, sizeof(set));
    assert_string_equal(cpuset_format(&set, text, sizeof(text)), "");
}

/* In a thread of its own, so that the test's affinity stays what it was. */
struct applied {
    struct cpuset before, wanted, after;
    int rc;
    struct error err;
};

static void *apply(void *opaque) {
    struct applied *a = opaque;
    struct error ignored = { 0 };
    cpuset_get(0, &a->before, &ignored);
    a->rc = cpuset_apply(0, &a->wanted, &a->err);
    cpuset_get(0, &a->after, &ignored);
    return NULL;
}

static void apply_in_thread(struct applied *a) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, apply, a), 0);
    pthread_join(thread, NULL);
}

static void a_thread_is_tied(void **state) {
    (void)state;
    struct applied a = { 0 };
    struct error err = { 0 };
    assert_ok(cpuset_get(0, &a.wanted, &err) == 0, &err);
    uint64_t first = bits_next_set(a.wanted.bits, 0, CPUSET_CPUS);
    assert_true(first < CPUSET_CPUS);
    memset(&a.wanted, 0, sizeof(a.wanted));
    bits_set(a.wanted.bits, first);
    apply_in_thread(&a);
    assert_ok(a.rc == 0, &a.err);
    assert_memory_equal(&a.after, &a.wanted, sizeof(a.after));
}

static void cpus_that_do_not_exist_are_refused_by_number(void **state) {
    (void)state;
    struct applied a = { 0 };
    bits_set(a.wanted.bits, 8000);
    apply_in_thread(&a); /* the kernel refuses: nothing is left */
    assert_refused(a.rc, &a.err, ERROR_USAGE, "CPU 8000 does not exist");
    assert_memory_equal(&a.after, &a.before, sizeof(a.after));

    struct applied b = { .wanted = a.before };
    bits_set(b.wanted.bits, 8000);
    apply_in_thread(&b); /* the kernel would take what is left */
    assert_refused(b.rc, &b.err, ERROR_USAGE, "CPU 8000 does not exist");
    assert_memory_equal(&b.after, &b.before, sizeof(b.after));
}

static void no_thread_no_affinity(void **state) {
    (void)state;
    struct cpuset set = { .bits = { 1 } };
    struct error err = { 0 };
    assert_refused(cpuset_apply(0x7ffffffe, &set, &err), &err, ERROR_SYSTEM, "2147483646");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_read_and_written),
        cmocka_unit_test(what_is_no_list_is_refused),
        cmocka_unit_test(a_long_list_is_cut_at_a_comma),
        cmocka_unit_test(a_thread_is_tied),
        cmocka_unit_test(cpus_that_do_not_exist_are_refused_by_number),
        cmocka_unit_test(no_thread_no_affinity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
