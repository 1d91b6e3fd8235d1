/* SPDX-License-Identifier: Apache-2.0 */
/* How long a process's threads wait for a CPU, from an invented /proc tree, with an invented clock. */
#include "host/waiting.h"
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PID 4711

static int setup(void **state) {
    char path[512];
    if (scratch_setup(state) < 0) {
        return -1;
    }
    static const char *const parts[] = { "/proc", "/proc/4711", "/proc/4711/task" };
    for (size_t i = 0; i < COUNT(parts); i++) {
        snprintf(path, sizeof(path), "%s%s", (char *)*state, parts[i]);
        mkdir(path, 0700);
    }
    return 0;
}

/* Gives a thread that schedstat; NULL: the thread is gone. */
static void put(const char *root, const char *tid, const char *text) {
    char folder[256], file[300], path[100];
    if (text != NULL) {
        snprintf(path, sizeof(path), "/proc/4711/task/%s/schedstat", tid);
        put_file(root, path, text);
        return;
    }
    snprintf(folder, sizeof(folder), "%s/proc/4711/task/%s", root, tid);
    snprintf(file, sizeof(file), "%s/schedstat", folder);
    assert_int_equal(unlink(file) | rmdir(folder), 0);
}

#define assert_near(a, b)                                                                                              \
    do {                                                                                                               \
        double a_ = (a);                                                                                               \
        if (!(fabs(a_ - (b)) < 1e-6)) {                                                                                \
            fail_msg("%s is %g, not %g", #a, a_, (double)(b));                                                         \
        }                                                                                                              \
    } while (0)

static void the_thread_that_waits_most_counts(void **state) {
    struct host_waiting w = { 0 };
    put(*state, "1", "1000 2000 30\n");
    put(*state, "2", "1000 500000000 30\n");
    assert_near(host_waiting_sample(&w, *state, PID, CLOCK_S), -1); /* the first one has nothing before it */
    assert_int_equal(w.count, 2);
    put(*state, "1", "2000 100002000 31\n"); /* 100 ms of the next second */
    put(*state, "2", "2000 750000000 31\n"); /* 250 ms */
    assert_near(host_waiting_sample(&w, *state, PID, 2 * CLOCK_S), 25);
    assert_near(host_waiting_sample(&w, *state, PID, 3 * CLOCK_S), 0);
    put(*state, "1", "2000 350002000 31\n");
    assert_near(host_waiting_sample(&w, *state, PID, 3 * CLOCK_S + CLOCK_S / 2), 50);
    host_waiting_free(&w);
    host_waiting_free(&w);
}

static void threads_come_and_go(void **state) {
    struct host_waiting w = { 0 };
    put(*state, "1", "1 0 1\n");
    put(*state, "2", "1 0 1\n");
    host_waiting_sample(&w, *state, PID, 0);
    put(*state, "2", NULL);
    put(*state, "3", "1 900000000 1\n"); /* new: what it waited before is not of this second */
    assert_near(host_waiting_sample(&w, *state, PID, CLOCK_S), 0);
    put(*state, "3", "1 1000000000 1\n");
    assert_near(host_waiting_sample(&w, *state, PID, 2 * CLOCK_S), 10);
    put(*state, "3", "1 5 1\n"); /* the number belongs to another thread now */
    assert_near(host_waiting_sample(&w, *state, PID, 3 * CLOCK_S), 0);
    host_waiting_free(&w);
}

static void a_clock_that_stands_still_tells_nothing(void **state) {
    struct host_waiting w = { 0 };
    put(*state, "1", "1 0 1\n");
    host_waiting_sample(&w, *state, PID, CLOCK_S);
    put(*state, "1", "1 5000 1\n");
    assert_near(host_waiting_sample(&w, *state, PID, CLOCK_S), -1);
    assert_near(host_waiting_sample(&w, *state, PID, CLOCK_S - 1), -1);
    host_waiting_free(&w);
}

static void what_is_no_schedstat_is_passed_over(void **state) {
    static const char *const bad[] = { "", "\n", "1", "x y z\n", "nan inf\n" };
    struct host_waiting w = { 0 };
    for (size_t i = 0; i < COUNT(bad); i++) {
        char tid[16];
        snprintf(tid, sizeof(tid), "%zu", i + 100);
        put(*state, tid, bad[i]);
    }
    put(*state, "not-a-number", "1 0 1\n");
    put(*state, "0", "1 0 1\n");
    put(*state, "-5", "1 0 1\n");
    put(*state, "7", "1 0 1\n");
    host_waiting_sample(&w, *state, PID, 0);
    assert_int_equal(w.count, 1);
    assert_int_equal(w.threads[0].tid, 7);
    put(*state, "7", NULL); /* nobody is left: nothing is known from here on */
    host_waiting_sample(&w, *state, PID, CLOCK_S);
    assert_int_equal(w.count, 0);
    assert_near(host_waiting_sample(&w, *state, PID, 2 * CLOCK_S), -1);
    host_waiting_free(&w);
}

static void a_process_that_is_gone(void **state) {
    struct host_waiting w = { 0 };
    assert_near(host_waiting_sample(&w, *state, PID + 1, 0), -1);
    assert_near(host_waiting_sample(&w, "/nowhere", PID, 0), -1);
    host_waiting_free(&w);
}

static void this_process_has_threads(void **state) {
    (void)state;
    struct host_waiting w = { 0 };
    host_waiting_sample(&w, "", getpid(), clock_now());
    assert_true(w.count >= 1);
    assert_true(host_waiting_sample(&w, "", getpid(), clock_now() + CLOCK_S) >= 0);
    host_waiting_free(&w);
}

#define EACH(name) cmocka_unit_test_setup_teardown(name, setup, scratch_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        EACH(the_thread_that_waits_most_counts),
        EACH(threads_come_and_go),
        EACH(a_clock_that_stands_still_tells_nothing),
        EACH(what_is_no_schedstat_is_passed_over),
        EACH(a_process_that_is_gone),
        EACH(this_process_has_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
