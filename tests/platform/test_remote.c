/* SPDX-License-Identifier: Apache-2.0 */
/* A system call run in a process leaves no trace in it: what it was doing goes on with the right result. */
#include "support.h"

#include "base/clock.h"
#include "host/process.h"
#include "remote/remote.h"
#include "remote/uapi.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INJECTIONS 100
#define FLAGS (O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)

/* Shared with the child. */
struct work {
    atomic_uint rounds; /* finished so far */
    atomic_uint wrong;  /* results that must not be */
    atomic_int example; /* the last of them: errno, or minus the result */
    int pipe[2];
    _Atomic(pid_t) ready;
};

static void wrong(struct work *w, int example) {
    atomic_store(&w->example, example);
    atomic_fetch_add(&w->wrong, 1);
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void inject_many(pid_t pid, int count, const char *what) {
    int64_t stopped[INJECTIONS];
    for (int i = 0; i < count; i++) {
        struct error err = { 0 };
        int fd = remote_userfaultfd(pid, FLAGS, &stopped[i], NULL, &err);
        assert_ok(fd >= 0, &err);
        close(fd);
        clock_sleep(CLOCK_MS / 2);
    }
    qsort(stopped, (size_t)count, sizeof(stopped[0]), compare);
    print_message("%s: stopped for %lld us (median), %lld us (longest) in %d injections\n", what,
                  (long long)stopped[count / 2] / 1000, (long long)stopped[count - 1] / 1000, count);
}

/* Injects while the child works by `run`; every result of its calls must be right. */
static void undisturbed(const char *what, void (*run)(void *), int count, void (*feed)(struct work *)) {
    struct work *w = shared_alloc(sizeof(*w));
    struct error err = { 0 };
    assert_int_equal(pipe2(w->pipe, O_CLOEXEC), 0);
    pid_t pid = child_start(run, w);
    while (atomic_load(&w->ready) == 0) {
        sched_yield();
    }
    pid_t feeder = 0;
    if (feed != NULL) {
        feeder = child_start((void (*)(void *))(uintptr_t)feed, w);
    }
    unsigned descriptors = child_count_descriptors(pid);
    inject_many(pid, count, what);
    unsigned before = atomic_load(&w->rounds);
    while (atomic_load(&w->rounds) < before + 3) {
        assert_true(child_is_alive(pid));
        clock_sleep(CLOCK_MS);
    }
    if (atomic_load(&w->wrong) != 0) {
        int example = atomic_load(&w->example);
        fail_msg("%u wrong results of %u, such as %d (%s)", atomic_load(&w->wrong), atomic_load(&w->rounds), example,
                 strerror(example > 0 ? example : 0));
    }
    assert_int_equal(child_count_descriptors(pid), descriptors);
    assert_int_equal(process_tracer(pid, &err), 0);
    if (feeder != 0) {
        child_end(feeder);
    }
    child_end(pid);
    close(w->pipe[0]);
    close(w->pipe[1]);
    shared_free(w, sizeof(*w));
}

static void work_ready(struct work *w) {
    atomic_store(&w->ready, getpid());
}

/* A relative sleep must take its whole time: it restarts through restart_syscall(2). */
static void run_nanosleep(void *opaque) {
    struct work *w = opaque;
    work_ready(w);
    for (;;) {
        const struct timespec time = { .tv_nsec = 7 * CLOCK_MS };
        int64_t begin = clock_now();
        if (nanosleep(&time, NULL) != 0) {
            wrong(w, errno);
        } else if (clock_now() - begin < 7 * CLOCK_MS) {
            wrong(w, -1);
        }
        atomic_fetch_add(&w->rounds, 1);
    }
}

static void restart_nanosleep(void **state) {
    (void)state;
    undisturbed("nanosleep", run_nanosleep, INJECTIONS, NULL);
}

static void run_ppoll(void *opaque) {
    struct work *w = opaque;
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    work_ready(w);
    for (unsigned i = 0;; i++) {
        const struct timespec time = { .tv_nsec = 5 * CLOCK_MS };
        struct pollfd fd = { .fd = w->pipe[0], .events = POLLIN };
        int n = ppoll(&fd, 1, &time, i % 2 ? &mask : NULL);
        if (n != 0) {
            wrong(w, n < 0 ? errno : -n);
        }
        atomic_fetch_add(&w->rounds, 1);
    }
}

static void restart_ppoll(void **state) {
    (void)state;
    undisturbed("ppoll", run_ppoll, INJECTIONS, NULL);
}

/* select and poll do not restart with a signal handler, but do without one. epoll_wait never does: a stop of any kind,
 * a debugger's too, makes it return EINTR, so that is what its callers bear. */
static void run_poll(void *opaque) {
    struct work *w = opaque;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;
    work_ready(w);
    for (unsigned i = 0;; i++) {
        struct pollfd fd = { .fd = w->pipe[0], .events = POLLIN };
        struct timeval time = { .tv_usec = 5000 };
        int n = i % 3 == 0 ? poll(&fd, 1, 5) : i % 3 == 1 ? select(0, NULL, NULL, NULL, &time) : 0;
        if (n != 0) {
            wrong(w, n < 0 ? errno : -n);
        }
        n = epoll_wait(epoll, &event, 1, 2);
        if (n > 0 || (n < 0 && errno != EINTR)) {
            wrong(w, n < 0 ? errno : -n);
        }
        atomic_fetch_add(&w->rounds, 1);
    }
}

static void restart_poll(void **state) {
    (void)state;
    undisturbed("poll, select, epoll_wait", run_poll, INJECTIONS, NULL);
}

/* Numbers come through a pipe: each once, in order, no EINTR. */
static void run_read(void *opaque) {
    struct work *w = opaque;
    unsigned number;
    work_ready(w);
    for (unsigned i = 0;; i++) {
        ssize_t n = read(w->pipe[0], &number, sizeof(number));
        if (n != sizeof(number)) {
            wrong(w, n < 0 ? errno : -(int)n);
        } else if (number != i) {
            wrong(w, -(int)number);
        }
        atomic_fetch_add(&w->rounds, 1);
    }
}

static void feed_read(struct work *w) {
    for (unsigned i = 0;; i++) {
        if (write(w->pipe[1], &i, sizeof(i)) != sizeof(i)) {
            return;
        }
        clock_sleep(CLOCK_MS * 3);
    }
}

static void restart_read(void **state) {
    (void)state;
    undisturbed("read", run_read, INJECTIONS, feed_read);
}

/* Only computes: stopped between any two instructions, with live values in every register and in the flags. */
static void run_compute(void *opaque) {
    struct work *w = opaque;
    uint64_t expected = 0;
    work_ready(w);
    for (;;) {
        uint64_t a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8;
        double x = 1.5;
        for (int i = 0; i < 2000000; i++) {
            a += b ^ (uint64_t)i, b = (b << 7 | b >> 57) + c, c ^= d * 31, d += e > f ? g : h;
            e = e * UINT64_C(6364136223846793005) + 1, f ^= e >> 11, g += f, h = (h >> 3 | h << 61) ^ g;
            x = x * 0.75 + 1.0;
        }
        uint64_t sum = a ^ b ^ c ^ d ^ e ^ f ^ g ^ h ^ (uint64_t)(x * 1e6);
        if (expected != 0 && sum != expected) {
            wrong(w, -1);
        }
        expected = sum;
        atomic_fetch_add(&w->rounds, 1);
    }
}

static void computing(void **state) {
    (void)state;
    undisturbed("computing", run_compute, 10, NULL);
}

/* Signals with numbers in them, as fast as they go. */
struct signals {
    atomic_int received, wrong;
    int sent;
    _Atomic(pid_t) ready;
};

static struct signals *signals;

static void on_number(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    if (info->si_value.sival_int != atomic_load(&signals->received)) {
        atomic_fetch_add(&signals->wrong, 1);
    }
    atomic_fetch_add(&signals->received, 1);
}

static void run_receive(void *opaque) {
    signals = opaque;
    struct sigaction action = { .sa_sigaction = on_number, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGRTMIN, &action, NULL);
    atomic_store(&signals->ready, getpid());
    for (;;) {
        /* ends by each signal, whose handler then runs while we may be stopping the thread */
        if (poll(NULL, 0, 1000) < 0 && errno != EINTR) {
            atomic_fetch_add(&signals->wrong, 1);
        }
    }
}

static void run_send(void *opaque) {
    struct signals *s = opaque;
    while (s->sent < 20000) {
        if (sigqueue(s->ready, SIGRTMIN, (union sigval){ .sival_int = s->sent }) == 0) {
            s->sent++;
        }
        if (s->sent % 8 == 0) {
            clock_sleep(CLOCK_MS / 50);
        }
    }
}

/* ThreadSanitizer puts its own handler in front, which keeps one signal of a number only: it loses some by itself. */
#if defined(__SANITIZE_THREAD__)
#define SIGNALS_ARE_LOST true
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SIGNALS_ARE_LOST true
#endif
#endif
#ifndef SIGNALS_ARE_LOST
#define SIGNALS_ARE_LOST false
#endif

static void signals_are_not_lost(void **state) {
    (void)state;
    if (SIGNALS_ARE_LOST) {
        SKIP("ThreadSanitizer loses signals");
    }
    struct signals *s = shared_alloc(sizeof(*s));
    pid_t receiver = child_start(run_receive, s);
    while (atomic_load(&s->ready) == 0) {
        sched_yield();
    }
    pid_t sender = child_start(run_send, s);
    inject_many(receiver, INJECTIONS, "under signals");
    assert_int_equal(waitpid(sender, NULL, 0), sender);
    while (atomic_load(&s->received) < 20000) {
        assert_true(child_is_alive(receiver));
        clock_sleep(CLOCK_MS);
    }
    assert_int_equal(s->wrong, 0);
    child_end(receiver);
    shared_free(s, sizeof(*s));
}

/* SIGSTOP and SIGCONT cannot be blocked: they come in the middle, and the process must stay stopped, or go on. */
static void run_stop_and_go(void *opaque) {
    pid_t pid = *(pid_t *)opaque;
    for (;;) {
        kill(pid, SIGSTOP);
        clock_sleep(CLOCK_MS / 10);
        kill(pid, SIGCONT);
        clock_sleep(CLOCK_MS / 10);
    }
}

static void stopped_process(void **state) {
    (void)state;
    struct work *w = shared_alloc(sizeof(*w));
    assert_int_equal(pipe2(w->pipe, O_CLOEXEC), 0);
    pid_t pid = child_start(run_ppoll, w);
    while (atomic_load(&w->ready) == 0) {
        sched_yield();
    }
    for (int i = 0; i < 10; i++) {
        kill(pid, SIGSTOP);
        child_wait_state(pid, 'T');
        inject_many(pid, 3, "in a stopped process");
        child_wait_state(pid, 'T');
        unsigned rounds = atomic_load(&w->rounds);
        clock_sleep(10 * CLOCK_MS);
        assert_int_equal(atomic_load(&w->rounds), rounds);
        kill(pid, SIGCONT);
        while (atomic_load(&w->rounds) == rounds) {
            clock_sleep(CLOCK_MS);
        }
    }
    pid_t other = child_start(run_stop_and_go, &pid);
    inject_many(pid, INJECTIONS, "while stopped and continued");
    child_end(other);
    kill(pid, SIGCONT);
    unsigned rounds = atomic_load(&w->rounds);
    while (atomic_load(&w->rounds) < rounds + 3) {
        assert_true(child_is_alive(pid));
        clock_sleep(CLOCK_MS);
    }
    assert_int_equal(w->wrong, 0);
    child_end(pid);
    close(w->pipe[0]);
    close(w->pipe[1]);
    shared_free(w, sizeof(*w));
}

static void run_pause(void *opaque) {
    struct work *w = opaque;
    work_ready(w);
    for (;;) {
        pause();
    }
}

static void run_trace(void *opaque) {
    struct work *w = opaque;
    pid_t pid = w->ready;
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0) {
        _exit(1);
    }
    atomic_store(&w->ready, -1);
    for (;;) {
        pause();
    }
}

static void traced_process_is_refused(void **state) {
    (void)state;
    struct work *w = shared_alloc(sizeof(*w));
    pid_t pid = child_start(run_pause, w);
    while (atomic_load(&w->ready) == 0) {
        sched_yield();
    }
    pid_t tracer = child_start(run_trace, w);
    while (atomic_load(&w->ready) != -1) {
        sched_yield();
    }
    struct error err = { 0 };
    char text[64];
    assert_int_equal(remote_userfaultfd(pid, FLAGS, NULL, NULL, &err), -1);
    assert_int_equal(err.class, ERROR_REFUSED);
    snprintf(text, sizeof(text), "already traced by process %d", (int)tracer);
    assert_non_null(strstr(err.desc, text));
    child_end(tracer);
    inject_many(pid, 1, "after the tracer's end");
    child_end(pid);
    shared_free(w, sizeof(*w));
}

static void missing_process(void **state) {
    (void)state;
    struct error err = { 0 };
    struct work *w = shared_alloc(sizeof(*w));
    pid_t pid = child_start(run_pause, w);
    child_end(pid);
    assert_int_equal(remote_userfaultfd(pid, FLAGS, NULL, NULL, &err), -1);
    assert_non_null(strstr(err.desc, "does not exist"));
    shared_free(w, sizeof(*w));
}

/* Killed at any moment of the injection: an error, never a hang. */
static void run_kill(void *opaque) {
    const pid_t *pid = opaque;
    clock_sleep((int64_t)(*pid % 40) * 5000);
    kill(*pid, SIGKILL);
}

static void killed_process(void **state) {
    (void)state;
    struct work *w = shared_alloc(sizeof(*w));
    unsigned failed = 0;
    for (int i = 0; i < INJECTIONS; i++) {
        atomic_store(&w->ready, 0);
        pid_t pid = child_start(run_ppoll, w);
        while (atomic_load(&w->ready) == 0) {
            sched_yield();
        }
        pid_t killer = child_start(run_kill, &pid);
        struct error err = { 0 };
        int fd;
        while ((fd = remote_userfaultfd(pid, FLAGS, NULL, NULL, &err)) >= 0) {
            close(fd);
        }
        assert_true(error_is_set(&err));
        failed++;
        waitpid(killer, NULL, 0);
        child_end(pid);
    }
    assert_int_equal(failed, INJECTIONS);
    shared_free(w, sizeof(*w));
}

/* A filter that kills whoever asks for a userfaultfd. */
static void run_filtered(void *opaque) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        _exit(1);
    }
    run_pause(opaque);
}

static void filtered_process(void **state) {
    (void)state;
    struct work *w = shared_alloc(sizeof(*w));
    struct error err = { 0 };
    pid_t pid = child_start(run_filtered, w);
    while (atomic_load(&w->ready) == 0) {
        assert_true(child_is_alive(pid));
        sched_yield();
    }
    int fd = remote_userfaultfd(pid, FLAGS, NULL, NULL, &err);
    print_message("seccomp: %s\n", fd >= 0 ? "filter suspended" : err.desc);
    if (fd >= 0) {
        close(fd);
    } else {
        assert_non_null(strstr(err.desc, "seccomp"));
    }
    assert_true(child_is_alive(pid));
    assert_int_equal(process_status_number(pid, "Seccomp", &(struct error){ 0 }), 2);
    child_end(pid);
    shared_free(w, sizeof(*w));
}

static void run_full(void *opaque) {
    const struct rlimit limit = { .rlim_cur = 3, .rlim_max = 3 };
    for (int fd = 3; fd < 1024; fd++) {
        close(fd);
    }
    setrlimit(RLIMIT_NOFILE, &limit);
    run_pause(opaque);
}

static void no_free_descriptor(void **state) {
    (void)state;
    struct work *w = shared_alloc(sizeof(*w));
    struct error err = { 0 };
    pid_t pid = child_start(run_full, w);
    while (atomic_load(&w->ready) == 0) {
        sched_yield();
    }
    assert_int_equal(remote_userfaultfd(pid, FLAGS, NULL, NULL, &err), -1);
    assert_non_null(strstr(err.desc, "RLIMIT_NOFILE"));
    assert_true(child_is_alive(pid));
    child_end(pid);
    shared_free(w, sizeof(*w));
}

/* We are killed in the middle, again and again: the process lives on and nobody traces it. Its ppoll may then see a
 * spurious result, nothing else. */
static void run_inject(void *opaque) {
    const pid_t *pid = opaque;
    for (;;) {
        struct error err = { 0 };
        int fd = remote_userfaultfd(*pid, FLAGS, NULL, NULL, &err);
        if (fd >= 0) {
            close(fd);
        }
    }
}

static void run_spurious(void *opaque) {
    struct work *w = opaque;
    work_ready(w);
    for (;;) {
        struct pollfd fd = { .fd = w->pipe[0], .events = POLLIN };
        poll(&fd, 1, 5);
        atomic_fetch_add(&w->rounds, 1);
    }
}

static void killed_injector(void **state) {
    (void)state;
    struct work *w = shared_alloc(sizeof(*w));
    struct error err = { 0 };
    assert_int_equal(pipe2(w->pipe, O_CLOEXEC), 0);
    pid_t pid = child_start(run_spurious, w);
    while (atomic_load(&w->ready) == 0) {
        sched_yield();
    }
    for (int i = 0; i < INJECTIONS; i++) {
        pid_t injector = child_start(run_inject, &pid);
        clock_sleep(CLOCK_MS * 2 + (int64_t)i * 20000);
        child_end(injector);
        unsigned rounds = atomic_load(&w->rounds);
        while (atomic_load(&w->rounds) < rounds + 2) {
            assert_true(child_is_alive(pid));
            clock_sleep(CLOCK_MS);
        }
        assert_int_equal(process_tracer(pid, &err), 0);
    }
    print_message("descriptors left behind by %d killed injectors: %d\n", INJECTIONS,
                  process_find_descriptor(pid, "anon_inode:[userfaultfd]", (char[64]){ 0 }, 64, &err));
    child_end(pid);
    close(w->pipe[0]);
    close(w->pipe[1]);
    shared_free(w, sizeof(*w));
}

/* What the engine would have written down. */
struct noted {
    atomic_int set;
    struct remote_change change;
    pid_t pid;
};

static int note(void *opaque, const struct remote_change *change, struct error *err) {
    struct noted *n = opaque;
    (void)err;
    if (change != NULL) {
        n->change = *change;
    }
    atomic_store(&n->set, change != NULL);
    return 0;
}

static void run_witnessed(void *opaque) {
    struct noted *n = opaque;
    struct error err = { 0 };
    struct remote_witness witness = { note, n };
    remote_userfaultfd(n->pid, FLAGS, NULL, &witness, &err);
}

static uint64_t blocked_signals(pid_t pid) {
    char path[64], line[256];
    unsigned long long mask = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL && sscanf(line, "SigBlk: %llx", &mask) != 1) {
    }
    fclose(file);
    return mask;
}

static bool has_userfaultfd(pid_t pid) {
    struct error err = { 0 };
    char found[64];
    return process_find_descriptor(pid, "anon_inode:[userfaultfd]", found, sizeof(found), &err) == 1;
}

/* Kills the injector at one place of the injection, and has it put back. */
static void kill_at(struct work *w, pid_t pid, const char *where, bool leaves_descriptor) {
    char fault[64];
    struct error err = { 0 };
    struct noted *n = shared_alloc(sizeof(*n));
    uint64_t before = blocked_signals(pid);
    n->pid = pid;
    snprintf(fault, sizeof(fault), "hold-injection@%s=60000", where);
    setenv("GODWIT_FAULT", fault, 1);
    pid_t injector = child_start(run_witnessed, n);
    unsetenv("GODWIT_FAULT");
    int64_t deadline = clock_now() + 10 * CLOCK_S;
    while ((blocked_signals(pid) == before || has_userfaultfd(pid) != leaves_descriptor) && clock_now() < deadline) {
        clock_sleep(CLOCK_MS);
    }
    clock_sleep(20 * CLOCK_MS); /* what comes behind the descriptor: its number is noted */
    child_end(injector);
    /* this is what it is for */
    assert_int_equal(blocked_signals(pid), ~UINT64_C(0) & ~(UINT64_C(1) << 8) & ~(UINT64_C(1) << 18));
    assert_true(has_userfaultfd(pid) == leaves_descriptor);
    assert_int_equal(atomic_load(&n->set), 1);
    for (int i = 0; i < 2; i++) { /* once more does no harm */
        assert_ok(remote_put_back(&n->change, &err) == 0, &err);
        assert_int_equal(blocked_signals(pid), before);
        assert_false(has_userfaultfd(pid));
    }
    unsigned rounds = atomic_load(&w->rounds);
    while (atomic_load(&w->rounds) < rounds + 2) {
        assert_true(child_is_alive(pid));
        clock_sleep(CLOCK_MS);
    }
    assert_int_equal(process_tracer(pid, &err), 0);
    shared_free(n, sizeof(*n));
}

static void a_killed_injector_is_put_back(void **state) {
    (void)state;
    struct work *w = shared_alloc(sizeof(*w));
    assert_int_equal(pipe2(w->pipe, O_CLOEXEC), 0);
    pid_t pid = child_start(run_spurious, w);
    while (atomic_load(&w->ready) == 0) {
        sched_yield();
    }
    kill_at(w, pid, "blocked", false);
    kill_at(w, pid, "made", true);
    kill_at(w, pid, "known", true);
    kill_at(w, pid, "closed", false);
    child_end(pid);
    close(w->pipe[0]);
    close(w->pipe[1]);
    shared_free(w, sizeof(*w));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restart_nanosleep), cmocka_unit_test(restart_ppoll),
        cmocka_unit_test(restart_poll),      cmocka_unit_test(restart_read),
        cmocka_unit_test(computing),         cmocka_unit_test(signals_are_not_lost),
        cmocka_unit_test(stopped_process),   cmocka_unit_test(traced_process_is_refused),
        cmocka_unit_test(missing_process),   cmocka_unit_test(killed_process),
        cmocka_unit_test(filtered_process),  cmocka_unit_test(no_free_descriptor),
        cmocka_unit_test(killed_injector),   cmocka_unit_test(a_killed_injector_is_put_back),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
