/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of QEMU that are wrong in type, range or length must not get past query.c. */
#include "base/cleanup.h"
#include "vmm/qemu/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A monitor that gives each command the next answer of a list, which ends with NULL. An answer that begins with '!' is
 * an error class. */
struct monitor {
    pthread_t thread;
    int fd;
    const char *const *answers;
    struct qmp *q;
};

static void *run_monitor(void *opaque) {
    struct monitor *m = opaque;
    FILE *in = fdopen(dup(m->fd), "r");
    char *line CLEANUP_FREE = NULL;
    size_t size = 0;
    for (const char *const *a = m->answers; *a != NULL && getline(&line, &size, in) > 0; a++) {
        json_t *command = json_loads(line, 0, NULL);
        const char *id = json_string_value(json_object_get(command, "id"));
        if (**a == '!') {
            dprintf(m->fd, "{\"id\": \"%s\", \"error\": {\"class\": \"%s\", \"desc\": \"no\"}}\r\n", id, *a + 1);
        } else {
            dprintf(m->fd, "{\"id\": \"%s\", \"return\": %s}\r\n", id, *a);
        }
        json_decref(command);
    }
    fclose(in);
    return NULL;
}

static void start(struct monitor *m, const char *const *answers) {
    struct error err = { 0 };
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    *m = (struct monitor){ .fd = pair[0], .answers = answers, .q = qmp_from_fd(pair[1], &err) };
    assert_non_null(m->q);
    assert_int_equal(pthread_create(&m->thread, NULL, run_monitor, m), 0);
}

static void finish(struct monitor *m) {
    qmp_close(m->q);
    pthread_join(m->thread, NULL);
    close(m->fd);
}

static void test_int(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool good;
        int64_t n;
    } cases[] = {
        { "0", true, 0 },
        { "-5", true, -5 },
        { "9223372036854775807", true, INT64_MAX },
        { "1e30", true, INT64_MAX },
        { "-1e30", true, INT64_MIN },
        { "9223372036854775808.0", true, INT64_MAX },
        { "\"7\"", false, 0 },
        { "null", false, 0 },
        { "true", false, 0 },
        { "[1]", false, 0 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CLEANUP_JSON json_t *value = json_loads(cases[i].text, JSON_DECODE_ANY, NULL);
        int64_t n = 0;
        assert_non_null(value);
        assert_int_equal(query_int(value, &n), cases[i].good);
        assert_true(n == cases[i].n);
    }
    int64_t n;
    assert_false(query_int(NULL, &n));
}

static void test_string(void **state) {
    (void)state;
    char text[4];
    CLEANUP_JSON json_t *value = json_string("a\nbcd");
    assert_true(query_string(value, text, sizeof(text)));
    assert_string_equal(text, "a b");
    assert_false(query_string(NULL, text, sizeof(text)));
    assert_string_equal(text, "");
}

static void test_state(void **state) {
    (void)state;
    static const char *const answers[] = { "{\"status\": \"running\", \"running\": true}", "{\"status\": \"paused\"}",
                                           "[]", "{\"status\": 1, \"running\": true}", NULL };
    struct monitor m;
    struct error err = { 0 };
    struct query_state s;
    start(&m, answers);
    assert_int_equal(query_state(m.q, &s, &err), 0);
    assert_true(s.running);
    assert_string_equal(s.name, "running");
    for (int i = 0; i < 3; i++) {
        error_clear(&err);
        assert_int_equal(query_state(m.q, &s, &err), -1);
        assert_non_null(strstr(err.desc, "query-status makes no sense"));
    }
    finish(&m);
}

static void test_migration(void **state) {
    (void)state;
    static const char *const answers[] = {
        "{}",
        "{\"status\": \"pre-switchover\", \"ram\": {\"total\": 18446744073709551615}}",
        "{\"status\": \"a-word-of-2030\", \"ram\": 4}",
        "{\"status\": \"failed\", \"error-desc\": \"why\", \"blocked-reasons\": [\"one\", 2, \"three\"]}",
        "{\"status\": []}",
        "\"none\"",
        NULL,
    };
    struct monitor mon;
    struct error err = { 0 };
    struct query_migration m;
    start(&mon, answers);
    assert_int_equal(query_migration(mon.q, &m, &err), 0);
    assert_int_equal(m.status, VMM_IDLE);
    assert_string_equal(m.name, "none");
    assert_false(m.has_ram);
    assert_int_equal(query_migration(mon.q, &m, &err), 0);
    assert_int_equal(m.status, VMM_PRE_SWITCHOVER);
    assert_true(m.has_ram && m.ram_total == INT64_MAX);
    assert_int_equal(query_migration(mon.q, &m, &err), 0);
    assert_true(query_migration_live(&m));
    assert_false(m.has_ram);
    assert_int_equal(query_migration(mon.q, &m, &err), 0);
    assert_int_equal(m.status, VMM_FAILED);
    assert_false(query_migration_live(&m));
    assert_string_equal(m.error, "why");
    assert_string_equal(m.blocked, "one; ; three");
    assert_int_equal(query_migration(mon.q, &m, &err), -1);
    error_clear(&err);
    assert_int_equal(query_migration(mon.q, &m, &err), -1);
    finish(&mon);
}

#define TEXT_SIZE 256

static int take_child(void *opaque, const char *name, const char *type, struct error *err) {
    char *text = opaque;
    (void)err;
    size_t at = strlen(text);
    snprintf(text + at, TEXT_SIZE - at, "%s=%s;", name, type);
    return strcmp(name, "last") == 0 ? 7 : 0;
}

static void test_children(void **state) {
    (void)state;
    static const char *const answers[] = {
        "[{\"name\": \"type\", \"type\": \"string\"}, {\"name\": \"a\", \"type\": \"child<x>\"}, {\"name\": 3}, 4,"
        " {\"name\": \"b\", \"type\": \"child<\"}, {\"name\": \"c\", \"type\": \"\"},"
        " {\"name\": \"last\", \"type\": \"child<y>\"}, {\"name\": \"after\", \"type\": \"child<z>\"}]",
        "!DeviceNotFound",
        "!GenericError",
        "{}",
        NULL,
    };
    struct monitor m;
    struct error err = { 0 };
    char text[TEXT_SIZE] = "";
    start(&m, answers);
    assert_int_equal(query_children(m.q, "/objects", take_child, text, &err), 7);
    assert_string_equal(text, "a=x;last=y;");
    assert_int_equal(query_children(m.q, "/gone", take_child, text, &err), 0);
    assert_false(error_is_set(&err));
    assert_int_equal(query_children(m.q, "/objects", take_child, text, &err), -1);
    error_clear(&err);
    assert_int_equal(query_children(m.q, "/objects", take_child, text, &err), -1);
    finish(&m);
}

static void test_properties(void **state) {
    (void)state;
    static const char *const answers[] = { "5",      "\"5\"",         "true", "1", "\"1234567\"", "\"12345678\"",
                                           "[\"\"]", "!GenericError", "9",    NULL };
    struct monitor m;
    struct error err = { 0 };
    int64_t n;
    bool b;
    char text[8];
    start(&m, answers);
    assert_int_equal(query_property_int(m.q, "/o", "p", &n, &err), 0);
    assert_int_equal(n, 5);
    assert_int_equal(query_property_int(m.q, "/o", "p", &n, &err), -1);
    error_clear(&err);
    assert_int_equal(query_property_bool(m.q, "/o", "p", &b, &err), 0);
    assert_true(b);
    assert_int_equal(query_property_bool(m.q, "/o", "p", &b, &err), -1);
    error_clear(&err);
    assert_int_equal(query_property_string(m.q, "/o", "p", text, sizeof(text), &err), 0);
    assert_string_equal(text, "1234567");
    assert_int_equal(query_property_string(m.q, "/o", "p", text, sizeof(text), &err), -1);
    error_clear(&err);
    assert_int_equal(query_property_string(m.q, "/o", "p", text, sizeof(text), &err), -1);
    error_clear(&err);
    assert_int_equal(query_optional_int(m.q, "/o", "p", 3, &n, &err), 0);
    assert_int_equal(n, 3);
    assert_int_equal(query_optional_int(m.q, "/o", "p", 3, &n, &err), 0);
    assert_int_equal(n, 9);
    finish(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_int),       cmocka_unit_test(test_string),   cmocka_unit_test(test_state),
        cmocka_unit_test(test_migration), cmocka_unit_test(test_children), cmocka_unit_test(test_properties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
