/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The process's stderr is a pipe of ours until it is put back, and its stream is the log's. */
struct reader {
    int end, before;
    FILE *stream;
};

static void reader_begin(struct reader *r) {
    int fd[2];
    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    r->end = fd[0];
    r->before = dup(STDERR_FILENO);
    assert_true(r->before >= 0);
    assert_true(dup2(fd[1], STDERR_FILENO) >= 0);
    close(fd[1]);
    assert_int_equal(fcntl(r->end, F_SETFL, O_NONBLOCK), 0);
    r->stream = stderr;
    log_adopt_libraries();
}

static void reader_end(struct reader *r) {
    fclose(stderr);
    stderr = r->stream;
    dup2(r->before, STDERR_FILENO);
    close(r->before);
    close(r->end);
}

static void assert_reads(struct reader *r, const char *text) {
    char got[300] = "";
    ssize_t n = read(r->end, got, sizeof(got) - 1);
    got[n > 0 ? n : 0] = '\0';
    assert_string_equal(got, text);
}

static void a_library_speaks_through_us(void **state) {
    struct reader r;
    (void)state;
    log_setup("test", LOG_INFO);
    reader_begin(&r);
    fprintf(stderr, "Cannot open %s\n", "/dev/vfio");
    assert_reads(&r, "test: a library says: Cannot open /dev/vfio\n");
    fputs("\033]0;", stderr); /* nothing for a terminal to obey */
    fputs("part\n", stderr);
    assert_reads(&r, "test: a library says:  ]0;part\n");
    log_setup("test", LOG_WARNING);
    fputs("nobody has asked\n", stderr);
    assert_reads(&r, "");
    reader_end(&r);
}

/* A thread that printed to a full pipe kept stdio's lock, and exit() waited for it. */
static void a_library_is_not_held_up(void **state) {
    struct reader r;
    static const char block[4096];
    (void)state;
    log_setup("test", LOG_INFO);
    reader_begin(&r);
    assert_int_equal(fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK), 0);
    while (write(STDERR_FILENO, block, sizeof(block)) > 0) {
    }
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(fcntl(STDERR_FILENO, F_SETFL, 0), 0);
    alarm(20); /* this is where it would wait for ever */
    assert_true(fprintf(stderr, "Cannot open /dev/vfio\n") > 0);
    assert_int_equal(fflush(NULL), 0);
    alarm(0);
    reader_end(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_library_speaks_through_us),
        cmocka_unit_test(a_library_is_not_held_up),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
