/* SPDX-License-Identifier: Apache-2.0 */
/* --events: in order, whole lines, and nobody waits for the file. */
#include "migrate/events.h"
#include "support.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[300];

static void all_is_written_in_order(void **state) {
    struct events e;
    struct error err = { 0 };
    char line[256];
    snprintf(path, sizeof(path), "%s/events", (const char *)*state);
    assert_ok(events_open(&e, path, &err) == 0, &err);
    for (int i = 0; i < 1000; i++) {
        events_emit(&e, "number", json_pack("{s:i}", "n", i));
    }
    events_emit(&e, "bare", NULL);
    events_close(&e);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    for (int i = 0; i < 1000; i++) {
        assert_non_null(fgets(line, sizeof(line), file));
        json_t *json = json_loads(line, 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(json, "n")), i);
        assert_string_equal(json_string_value(json_object_get(json, "event")), "number");
        assert_true(json_real_value(json_object_get(json, "time")) > 1e9);
        json_decref(json);
    }
    assert_non_null(fgets(line, sizeof(line), file));
    assert_non_null(strstr(line, "\"bare\""));
    assert_null(fgets(line, sizeof(line), file));
    fclose(file);
    unlink(path);
}

static void nobody_asked(void **state) {
    (void)state;
    struct events e;
    struct error err = { 0 };
    assert_ok(events_open(&e, NULL, &err) == 0, &err);
    events_emit(&e, "number", json_pack("{s:i}", "n", 1));
    events_close(&e);
    assert_refused(events_open(&e, "/nowhere/events", &err), &err, ERROR_USAGE, "cannot write events");
    events_close(&e);
}

/* A pipe that nobody reads takes 64 KiB; then a write into it does not return. */
static void nobody_waits_for_the_file(void **state) {
    struct events e;
    struct error err = { 0 };
    snprintf(path, sizeof(path), "%s/pipe", (const char *)*state);
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_ok(events_open(&e, path, &err) == 0, &err);
    int64_t begin = clock_now(), longest = 0;
    for (int i = 0; i < 60000; i++) {
        int64_t at = clock_now();
        events_emit(&e, "number", json_pack("{s:i}", "n", i));
        longest = clock_now() - at > longest ? clock_now() - at : longest;
    }
    assert_true(clock_now() - begin < 30 * CLOCK_S);
    /* what does not fit is counted, when there is room to say so */
    static char text[4 << 20];
    size_t have = 0;
    int64_t deadline = clock_now() + 20 * CLOCK_S;
    while (strstr(text, "\"lost\"") == NULL && clock_now() < deadline) {
        ssize_t n = read(reader, text + have, sizeof(text) - have - 1);
        have += n > 0 ? (size_t)n : 0;
        if (n <= 0) {
            events_emit(&e, "late", NULL);
            clock_sleep(CLOCK_MS);
        }
    }
    assert_non_null(strstr(text, "{\"event\":\"lost\""));
    /* again it takes nothing, and that is not waited for either */
    for (int i = 0; i < 3000; i++) {
        events_emit(&e, "number", json_pack("{s:i}", "n", i));
    }
    begin = clock_now();
    events_close(&e);
    assert_true(clock_now() - begin < 20 * CLOCK_S);
    close(reader);
    unlink(path);
    clock_sleep(200 * CLOCK_MS); /* now its writer ends, which was left behind */
    print_message("the longest call took %lld us\n", (long long)longest / 1000);
}

static void limit_files(rlim_t bytes) {
    struct rlimit limit = { .rlim_cur = bytes, .rlim_max = RLIM_INFINITY };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static off_t size_of(int fd) {
    struct stat now;
    assert_int_equal(fstat(fd, &now), 0);
    return now.st_size;
}

/* The file may not grow in the middle of a line, and then it may again. */
static void a_torn_line_is_one_line(void **state) {
    (void)state;
    char name[] = "/tmp/test_events.XXXXXX", text[4096] = "";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    struct events e;
    struct error err = { 0 };
    assert_ok(events_open(&e, name, &err) == 0, &err);
    events_emit(&e, "one", NULL);
    WAIT_FOR(size_of(fd) > 0);
    off_t before = size_of(fd);
    signal(SIGXFSZ, SIG_IGN);
    limit_files((rlim_t)before + 10);
    events_emit(&e, "two", NULL);
    WAIT_FOR(size_of(fd) == before + 10);
    events_emit(&e, "three", NULL);
    clock_sleep(200 * CLOCK_MS); /* until the writer has tried */
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
    unlink(name);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_written_in_order),
        cmocka_unit_test(nobody_asked),
        cmocka_unit_test(nobody_waits_for_the_file),
        cmocka_unit_test(a_torn_line_is_one_line),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
