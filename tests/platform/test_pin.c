/* SPDX-License-Identifier: Apache-2.0 */
/* A process whose id is held runs as before, and its id is nobody else's until it is let go. */
#include "support.h"

#include "base/clock.h"
#include "remote/pin.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A process, and the one that waits for its end. */
struct family {
    pid_t parent, child;
    int told[2];  /* the parent: the child's id, then 'e' when it has taken the child's end */
    int heard[2]; /* the child: 's' for each SIGUSR1 */
};

static int heard_fd;

static void on_signal(int signal) {
    (void)signal;
    (void)!write(heard_fd, "s", 1);
}

static void live(const struct family *f) {
    heard_fd = f->heard[1];
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* when a test fails its family ends */
    signal(SIGUSR1, on_signal);
    (void)!write(heard_fd, "r", 1);
    for (;;) {
        pause();
    }
}

static void run_parent(void *opaque) {
    const struct family *f = opaque;
    pid_t child = fork();
    if (child == 0) {
        live(f);
    }
    (void)!write(f->told[1], &child, sizeof(child));
    while (waitpid(child, NULL, 0) < 0) {
    }
    (void)!write(f->told[1], "e", 1);
    pause();
}

static char read_char(int fd) {
    char c = 0;
    assert_int_equal(read(fd, &c, 1), 1);
    return c;
}

static bool is_readable(int fd, int ms) {
    struct pollfd p = { .fd = fd, .events = POLLIN };
    return poll(&p, 1, ms) > 0;
}

static void family_start(struct family *f) {
    assert_int_equal(pipe(f->told) | pipe(f->heard), 0);
    f->parent = child_start(run_parent, f);
    assert_int_equal(read(f->told[0], &f->child, sizeof(f->child)), sizeof(f->child));
    assert_int_equal(read_char(f->heard[0]), 'r');
}

static void family_end(struct family *f) {
    kill(f->child, SIGKILL);
    assert_int_equal(read_char(f->told[0]), 'e');
    child_end(f->parent);
    for (int i = 0; i < 2; i++) {
        close(f->told[i]);
        close(f->heard[i]);
    }
}

static struct pin *pin_it(const struct family *f) {
    struct error err = { 0 };
    struct pin *p = pin_open(f->child, &err);
    assert_ok(p != NULL, &err);
    return p;
}

/* Whoever waits for it is not told of its end: so its id is not free. */
static void keeps_the_id(void **state) {
    (void)state;
    struct family f;
    family_start(&f);
    struct pin *p = pin_it(&f);
    kill(f.child, SIGKILL);
    child_wait_state(f.child, 'Z');
    assert_false(is_readable(f.told[0], 300));
    assert_int_equal(child_state(f.child), 'Z');
    pin_close(p);
    assert_int_equal(read_char(f.told[0]), 'e');
    child_end(f.parent);
}

static void passes_signals_on(void **state) {
    (void)state;
    struct family f;
    family_start(&f);
    struct pin *p = pin_it(&f);
    for (int i = 0; i < 3; i++) {
        kill(f.child, SIGUSR1);
        assert_int_equal(read_char(f.heard[0]), 's');
    }
    /* stopped by a signal it stays stopped, and goes on */
    kill(f.child, SIGSTOP);
    clock_sleep(100 * CLOCK_MS);
    kill(f.child, SIGUSR1);
    assert_false(is_readable(f.heard[0], 300));
    kill(f.child, SIGCONT);
    assert_int_equal(read_char(f.heard[0]), 's');
    pin_close(p);
    kill(f.child, SIGUSR1);
    assert_int_equal(read_char(f.heard[0]), 's');
    family_end(&f);
}

static void only_one(void **state) {
    (void)state;
    struct family f;
    struct error err = { 0 };
    family_start(&f);
    struct pin *p = pin_it(&f);
    assert_null(pin_open(f.child, &err));
    assert_true(error_is_set(&err));
    pin_close(p);
    pin_close(pin_it(&f));
    family_end(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_id),
        cmocka_unit_test(passes_signals_on),
        cmocka_unit_test(only_one),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
