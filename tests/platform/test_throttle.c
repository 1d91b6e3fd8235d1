/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of another process that are held back by ptrace: they get their share, lose no signal, and are let go
 * whatever happens to the one who holds them. */
#include "spinners.h"
#include "support.h"

#include "base/clock.h"
#include "hold/throttle.h"
#include "host/process.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Only there so that a failure ends. */
#define PATIENCE (30 * CLOCK_S)
#define WAIT_FOR(condition)                                                                                            \
    do {                                                                                                               \
        int64_t wait_until_ = clock_now() + PATIENCE;                                                                  \
        while (!(condition)) {                                                                                         \
            if (clock_now() > wait_until_) {                                                                           \
                fail_msg("waited in vain for %s", #condition);                                                         \
            }                                                                                                          \
            clock_sleep(CLOCK_MS / 10);                                                                                \
        }                                                                                                              \
    } while (0)

static struct throttle *open_attended(const struct spinners *s, int64_t attention) {
    struct error err = { 0 };
    struct throttle_config config = { .pid = s->pid, .kind = THROTTLE_AUTO, .root = "", .attention = attention };
    struct throttle *t = throttle_open(&config, s->shared->tids, s->count, &err);
    assert_ok(t != NULL, &err);
    assert_int_equal(throttle_kind(t), THROTTLE_DUTY);
    return t;
}

static struct throttle *open_duty(const struct spinners *s) {
    return open_attended(s, 0);
}

static void set(struct throttle *t, unsigned percent) {
    struct error err = { 0 };
    assert_ok(throttle_set(t, percent, &err) == 0, &err);
    assert_ok(throttle_check(t, &err) == 0, &err);
}

static bool is_traced(pid_t tid) {
    struct error err = { 0 };
    return process_tracer(tid, &err) != 0;
}

static void assert_free(const struct spinners *s) {
    for (unsigned i = 0; i < s->count; i++) {
        assert_false(is_traced(s->shared->tids[i]));
    }
}

/* On a machine whose CPUs are wanted by others too, `free_share` is what the threads get unthrottled. */
static void each_gets_its_share(void **state) {
    (void)state;
    needs_steady_time();
    struct spinners s;
    spinners_start(&s, 2);
    struct throttle *t = open_duty(&s);
    double share[3], free_share = spinners_share(&s, CLOCK_S);
    print_message("unthrottled: %.1f %% of the work\n", 100 * free_share);
    const unsigned percent[3] = { 50, 90, 99 };
    for (int i = 0; i < 3; i++) {
        set(t, percent[i]);
        int64_t held = throttle_held_ns(t), cpu = clock_cpu(), begin = clock_now();
        share[i] = spinners_share(&s, 2 * CLOCK_S);
        double time = (double)(clock_now() - begin);
        held = throttle_held_ns(t) - held;
        print_message("%u %%: %.2f %% of the work, held for %.2f %% of the time, at %.2f %% of a CPU\n", percent[i],
                      100 * share[i], 100 * (double)held / time, 100 * (double)(clock_cpu() - cpu) / time);
        double wanted = (100 - percent[i]) / 100.0;
        assert_true(share[i] < 2 * wanted);
        assert_true(share[i] > wanted * free_share / 10);
        assert_true((double)held > 0.5 * time * percent[i] / 100 && (double)held < 1.01 * time);
    }
    assert_true(share[0] > share[1] && share[1] > share[2]);
    throttle_close(t);
    assert_free(&s);
    spinners_end(&s);
}

/* ns of the next half second that the threads are held. */
static int64_t held_in_half_a_second(struct throttle *t) {
    int64_t held = throttle_held_ns(t);
    clock_sleep(CLOCK_S / 2);
    return throttle_held_ns(t) - held;
}

static void nobody_is_held_unattended(void **state) {
    (void)state;
    struct spinners s;
    spinners_start(&s, 2);
    struct throttle *t = open_attended(&s, CLOCK_S / 5);
    for (int i = 0; i < 3; i++) {
        set(t, 99);
        int64_t begin = clock_now();
        while (clock_now() - begin < CLOCK_S) { /* longer than it takes to be forgotten */
            clock_sleep(CLOCK_S / 20);
            set(t, 99);
        }
        assert_true(throttle_held_ns(t) > 0);
        clock_sleep(CLOCK_S / 2);
        assert_int_equal(held_in_half_a_second(t), 0);
        assert_free(&s);
        struct error err = { 0 };
        assert_ok(throttle_check(t, &err) == 0, &err);
        int64_t held = throttle_held_ns(t);
        WAIT_FOR(throttle_check(t, &err) == 0 && throttle_held_ns(t) > held);
    }
    throttle_close(t);
    spinners_end(&s);
}

static void zero_lets_go_at_once(void **state) {
    (void)state;
    struct spinners s;
    spinners_start(&s, 3);
    struct throttle *t = open_duty(&s);
    for (int i = 0; i < 100; i++) {
        set(t, i % 2 ? 99 : 50);
        clock_sleep(i * CLOCK_MS / 20);
        set(t, 0);
        assert_free(&s);
    }
    assert_true(throttle_held_ns(t) > 0);
    throttle_close(t);
    spinners_end(&s);
}

static void need_native(void) {
    if (!SPINNERS_NATIVE) {
        SKIP("ThreadSanitizer's runtime has its own ways with signals and vfork()");
    }
}

static void no_signal_is_lost(void **state) {
    (void)state;
    need_native();
    struct spinners s;
    spinners_start(&s, 2);
    struct throttle *t = open_duty(&s);
    set(t, 90);
    unsigned queued = 0;
    for (unsigned round = 0; round < 300; round++) {
        /* one that would merge with its like is sent when the last one was seen */
        for (unsigned i = 0; i < s.count; i++) {
            unsigned seen = atomic_load(&s.shared->plain[i]);
            assert_int_equal(syscall(SYS_tgkill, s.pid, s.shared->tids[i], SIGUSR1), 0);
            queued += spinners_queue(&s, i, 10);
            WAIT_FOR(atomic_load(&s.shared->plain[i]) == seen + 1);
        }
    }
    WAIT_FOR(spinners_received(&s) == queued);
    assert_int_equal(atomic_load(&s.shared->disordered), 0);
    set(t, 0);
    assert_int_equal(spinners_received(&s), queued);
    throttle_close(t);
    spinners_end(&s);
}

static void stopping_and_continuing_the_process_works(void **state) {
    (void)state;
    struct spinners s;
    spinners_start(&s, 2);
    struct throttle *t = open_duty(&s);
    set(t, 80);
    for (int i = 0; i < 20; i++) {
        int status;
        assert_int_equal(kill(s.pid, SIGSTOP), 0);
        assert_int_equal(waitpid(s.pid, &status, WUNTRACED), s.pid);
        assert_true(WIFSTOPPED(status));
        uint64_t work = spinners_work(&s);
        clock_sleep((20 + i) * CLOCK_MS);
        assert_int_equal(spinners_work(&s), work);
        if (i == 10) { /* to be let go is not to be continued */
            set(t, 0);
            clock_sleep(20 * CLOCK_MS);
            assert_int_equal(spinners_work(&s), work);
            set(t, 80);
        }
        assert_int_equal(kill(s.pid, SIGCONT), 0);
        WAIT_FOR(spinners_work(&s) > work);
    }
    throttle_close(t);
    assert_free(&s);
    spinners_end(&s);
}

static void a_thread_that_ended_does_not_disturb_the_others(void **state) {
    (void)state;
    struct spinners s;
    struct error err = { 0 };
    spinners_start(&s, 3);
    struct throttle *t = open_duty(&s);
    set(t, 90);
    spinners_let_end(&s, 1);
    uint64_t work = spinners_work(&s);
    WAIT_FOR(spinners_work(&s) > work + 1000);
    assert_ok(throttle_check(t, &err) == 0, &err);
    set(t, 50);
    spinners_let_end(&s, 0);
    spinners_let_end(&s, 2);
    WAIT_FOR(throttle_check(t, &err) < 0);
    assert_int_equal(err.class, ERROR_VMM);
    assert_non_null(strstr(err.desc, "have ended"));
    error_clear(&err);
    assert_int_equal(throttle_set(t, 50, &err), -1);
    throttle_close(t);
    assert_true(child_is_alive(s.pid));
    spinners_end(&s);
}

static void a_process_that_is_killed_goes_away(void **state) {
    (void)state;
    struct spinners s;
    struct error err = { 0 };
    spinners_start(&s, 2);
    struct throttle *t = open_duty(&s);
    set(t, 99);
    kill(s.pid, SIGKILL);
    WAIT_FOR(throttle_check(t, &err) < 0);
    assert_int_equal(waitpid(s.pid, NULL, 0), s.pid);
    throttle_close(t);
    spinners_forget(&s);
}

/* A debugger: traces the thread until it is killed. */
static void trace(void *opaque) {
    const struct spinners *s = opaque;
    if (ptrace(PTRACE_SEIZE, s->shared->tids[1], NULL, NULL) == 0) {
        for (;;) {
            pause();
        }
    }
}

/* It may come too early, while we trace. */
static pid_t start_debugger(struct spinners *s) {
    for (;;) {
        pid_t pid = child_start(trace, s);
        struct error err = { 0 };
        while (process_tracer(s->shared->tids[1], &err) != pid) {
            if (waitpid(pid, NULL, WNOHANG) == pid) {
                pid = 0;
                break;
            }
        }
        if (pid != 0) {
            return pid;
        }
    }
}

static void a_debugger_is_refused_by_name(void **state) {
    (void)state;
    struct spinners s;
    struct error err = { 0 };
    spinners_start(&s, 2);
    struct throttle *t = open_duty(&s);
    set(t, 50);
    pid_t debugger = start_debugger(&s);
    WAIT_FOR(throttle_check(t, &err) < 0);
    assert_int_equal(err.class, ERROR_REFUSED);
    assert_non_null(strstr(err.desc, "is traced by process"));
    assert_false(is_traced(s.shared->tids[0]));
    error_clear(&err);
    assert_int_equal(throttle_set(t, 50, &err), -1);
    assert_int_equal(err.class, ERROR_REFUSED);
    assert_false(is_traced(s.shared->tids[0]));
    error_clear(&err);
    struct throttle_config config = { .pid = s.pid, .kind = THROTTLE_DUTY, .root = "" };
    assert_null(throttle_open(&config, s.shared->tids, s.count, &err));
    assert_int_equal(err.class, ERROR_REFUSED);
    child_end(debugger);
    set(t, 50);
    throttle_close(t);
    spinners_end(&s);
}

static void foreign_threads_are_refused(void **state) {
    (void)state;
    struct spinners s;
    struct error err = { 0 };
    spinners_start(&s, 1);
    pid_t threads[2] = { s.shared->tids[0], getppid() };
    struct throttle_config config = { .pid = s.pid, .kind = THROTTLE_DUTY, .root = "" };
    assert_null(throttle_open(&config, threads, 2, &err));
    assert_non_null(strstr(err.desc, "is not one of process"));
    error_clear(&err);
    assert_null(throttle_open(&config, threads, 0, &err));
    assert_int_equal(err.class, ERROR_REFUSED);
    error_clear(&err);
    config.pid = getpid();
    assert_null(throttle_open(&config, threads, 1, &err));
    error_clear(&err);
    struct throttle *t = open_duty(&s);
    assert_int_equal(throttle_set(t, 100, &err), -1);
    assert_int_equal(err.class, ERROR_USAGE);
    throttle_close(t);
    throttle_close(NULL);
    spinners_end(&s);
}

/* The parent of a vfork() sleeps uninterruptibly until its child ends. */
static void one_in_uninterruptible_sleep_is_let_go_too(void **state) {
    (void)state;
    need_native();
    struct spinners s;
    struct error err = { 0 };
    spinners_start(&s, 2);
    struct throttle *t = open_duty(&s);
    atomic_store(&s.shared->sleep_ms, 700);
    WAIT_FOR(child_state(s.shared->tids[1]) == 'D');
    set(t, 50);
    clock_sleep(50 * CLOCK_MS);
    assert_true(is_traced(s.shared->tids[1]));
    assert_ok(throttle_check(t, &err) == 0, &err);
    set(t, 0);
    assert_free(&s);
    if (child_state(s.shared->tids[1]) != 'D') {
        print_message("the sleep was over before the throttle\n");
    }
    set(t, 50); /* and through the end of the sleep */
    WAIT_FOR(atomic_load(&s.shared->sleep_ms) == 0);
    uint64_t work = atomic_load(&s.shared->work[1]);
    WAIT_FOR(atomic_load(&s.shared->work[1]) > work + 1000);
    throttle_close(t);
    assert_free(&s);
    spinners_end(&s);
}

struct killed {
    const struct spinners *s;
    atomic_bool *ready;
};

static void throttle_for_ever(void *opaque) {
    const struct killed *k = opaque;
    struct error err = { 0 };
    struct throttle_config config = { .pid = k->s->pid, .root = "" };
    struct throttle *t = throttle_open(&config, k->s->shared->tids, k->s->count, &err);
    if (t != NULL && throttle_set(t, 99, &err) == 0) {
        atomic_store(k->ready, true);
        for (;;) {
            pause();
        }
    }
}

static pid_t start_throttler(const struct spinners *s) {
    atomic_bool *ready = shared_alloc(sizeof(*ready));
    struct killed k = { s, ready };
    pid_t pid = child_start(throttle_for_ever, &k);
    WAIT_FOR(atomic_load(ready));
    shared_free(ready, sizeof(*ready));
    return pid;
}

static void our_death_lets_them_go(void **state) {
    (void)state;
    struct spinners s;
    spinners_start(&s, 1);
    for (int i = 0; i < 10; i++) {
        pid_t pid = start_throttler(&s);
        double held = spinners_share(&s, 300 * CLOCK_MS);
        clock_sleep(i * 7 * CLOCK_MS);
        kill(pid, SIGKILL);
        double first = spinners_share(&s, 100 * CLOCK_MS);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_free(&s);
        print_message("held: %.1f %%, in the first 100 ms behind SIGKILL: %.1f %%\n", 100 * held, 100 * first);
        assert_true(held < 0.2);
        /* on a machine that is busy with other things they may have to wait for a CPU first */
        WAIT_FOR(spinners_share(&s, 100 * CLOCK_MS) > 2 * held + 0.03);
    }
    spinners_end(&s);
}

static void our_death_loses_no_signal(void **state) {
    (void)state;
    need_native();
    struct spinners s;
    spinners_start(&s, 2);
    unsigned queued = 0;
    uint64_t random = 7;
    for (int i = 0; i < 60; i++) {
        pid_t pid = start_throttler(&s);
        random = random * 6364136223846793005u + 1442695040888963407u;
        int64_t end = clock_now() + (int64_t)(random >> 33) % (20 * CLOCK_MS);
        do {
            queued += spinners_queue(&s, queued / 5 % 2, 5);
        } while (clock_now() < end);
        child_end(pid);
        WAIT_FOR(spinners_received(&s) == queued);
    }
    assert_int_equal(atomic_load(&s.shared->disordered), 0);
    print_message("%u signals, all received in their order\n", queued);
    spinners_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_gets_its_share),
        cmocka_unit_test(nobody_is_held_unattended),
        cmocka_unit_test(zero_lets_go_at_once),
        cmocka_unit_test(no_signal_is_lost),
        cmocka_unit_test(stopping_and_continuing_the_process_works),
        cmocka_unit_test(a_thread_that_ended_does_not_disturb_the_others),
        cmocka_unit_test(a_process_that_is_killed_goes_away),
        cmocka_unit_test(a_debugger_is_refused_by_name),
        cmocka_unit_test(foreign_threads_are_refused),
        cmocka_unit_test(one_in_uninterruptible_sleep_is_let_go_too),
        cmocka_unit_test(our_death_lets_them_go),
        cmocka_unit_test(our_death_loses_no_signal),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
