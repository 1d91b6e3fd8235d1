/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "migrate/events.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void limit_files(rlim_t bytes) {
    struct rlimit limit = { .rlim_cur = bytes, .rlim_max = RLIM_INFINITY };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* The file may not grow in the middle of a line, and then it may again. */
static void a_torn_line_is_one_line(void **state) {
    (void)state;
    char path[] = "/tmp/test_events.XXXXXX", text[4096] = "";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    struct events e;
    struct error err = { 0 };
    struct stat now;
    assert_ok(events_open(&e, path, &err) == 0, &err);
    events_emit(&e, "one", NULL);
    assert_int_equal(fstat(fd, &now), 0);
    signal(SIGXFSZ, SIG_IGN);
    limit_files((rlim_t)now.st_size + 10);
    events_emit(&e, "two", NULL);
    events_emit(&e, "three", NULL);
    limit_files(RLIM_INFINITY);
    events_emit(&e, "four", json_pack("{s:i}", "n", 4));
    events_close(&e);
    assert_true(read(fd, text, sizeof(text) - 1) > 0);
    const char *names[] = { "one", NULL, "four" };
    unsigned n = 0;
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL && *line != '\0'; n++) {
        assert_true(n < 3);
        json_t *object = json_loads(line, 0, NULL);
        assert_int_equal(object != NULL, names[n] != NULL);
        if (object != NULL) {
            assert_string_equal(json_string_value(json_object_get(object, "event")), names[n]);
        }
        json_decref(object);
    }
    assert_int_equal(n, 3);
    close(fd);
    unlink(path);
}

static void without_a_file_nothing_is_written(void **state) {
    (void)state;
    struct events e;
    struct error err = { 0 };
    assert_int_equal(events_open(&e, NULL, &err), 0);
    events_emit(&e, "one", json_pack("{s:i}", "n", 1));
    events_close(&e);
    assert_refused(events_open(&e, "/no/such/folder/events", &err), &err, ERROR_USAGE, "cannot write events to");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_torn_line_is_one_line),
        cmocka_unit_test(without_a_file_nothing_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
