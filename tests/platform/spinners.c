/* SPDX-License-Identifier: Apache-2.0 */
#include "spinners.h"

#include "support.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child. A handler must find its thread's place. */
static struct spinners_shared *shared;
static _Thread_local unsigned own;

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)context;
    if (number == SIGUSR1) {
        atomic_fetch_add(&shared->plain[own], 1);
        return;
    }
    unsigned expected = atomic_fetch_add(&shared->queued[own], 1);
    if ((unsigned)info->si_value.sival_int != expected) {
        atomic_fetch_add(&shared->disordered, 1);
    }
}

static void sleep_uninterruptibly(void) {
    struct timespec t = { .tv_sec = 0, .tv_nsec = 0 };
    int64_t ns = atomic_load(&shared->sleep_ms) * CLOCK_MS;
    t.tv_sec = ns / CLOCK_S;
    t.tv_nsec = ns % CLOCK_S;
    pid_t pid = vfork();
    if (pid == 0) {
        syscall(SYS_nanosleep, &t, NULL);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    atomic_store(&shared->sleep_ms, 0);
}

static void *count_up(void *opaque) {
    own = (unsigned)(uintptr_t)opaque;
    shared->tids[own] = (pid_t)syscall(SYS_gettid);
    atomic_fetch_add(&shared->ready, 1);
    while (!atomic_load_explicit(&shared->end[own], memory_order_relaxed)) {
        for (volatile int i = 0; i < 2000; i++) {
        }
        atomic_fetch_add_explicit(&shared->work[own], 1, memory_order_relaxed);
        atomic_store_explicit(&shared->cpu[own], clock_thread_cpu(), memory_order_relaxed);
        if (own == 1 && atomic_load_explicit(&shared->sleep_ms, memory_order_relaxed) != 0) {
            sleep_uninterruptibly();
        }
    }
    return NULL;
}

static void run(void *opaque) {
    const struct spinners *s = opaque;
    shared = s->shared;
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGRTMIN, &action, NULL);
    for (unsigned i = 0; i < s->count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, count_up, (void *)(uintptr_t)i) != 0) {
            return;
        }
    }
    for (;;) {
        pause();
    }
}

void spinners_start(struct spinners *s, unsigned count) {
    *s = (struct spinners){ .count = count, .shared = shared_alloc(sizeof(*s->shared)) };
    s->pid = child_start(run, s);
    while (atomic_load(&s->shared->ready) < count || atomic_load(&s->shared->work[count - 1]) == 0) {
        assert_true(child_is_alive(s->pid));
        clock_sleep(CLOCK_MS);
    }
}

void spinners_end(struct spinners *s) {
    child_end(s->pid);
    spinners_forget(s);
}

void spinners_forget(struct spinners *s) {
    shared_free(s->shared, sizeof(*s->shared));
}

uint64_t spinners_work(const struct spinners *s) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < s->count; i++) {
        sum += atomic_load(&s->shared->work[i]);
    }
    return sum;
}

static int64_t cpu_time(const struct spinners *s) {
    int64_t sum = 0;
    for (unsigned i = 0; i < s->count; i++) {
        sum += atomic_load(&s->shared->cpu[i]);
    }
    return sum;
}

double spinners_share(const struct spinners *s, int64_t ns) {
    int64_t begin = clock_now();
    uint64_t before = spinners_work(s);
    clock_sleep(ns);
    double work = (double)(spinners_work(s) - before), time = (double)(clock_now() - begin) * s->count;
    /* by the mean speed since the start, while it had a CPU */
    return work * (double)cpu_time(s) / (double)spinners_work(s) / time;
}

unsigned spinners_queue(struct spinners *s, unsigned thread, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        siginfo_t info;
        memset(&info, 0, sizeof(info));
        info.si_code = SI_QUEUE;
        info.si_pid = getpid();
        info.si_value.sival_int = (int)s->shared->sent[thread]++;
        while (syscall(SYS_rt_tgsigqueueinfo, s->pid, s->shared->tids[thread], SIGRTMIN, &info) != 0) {
            assert_int_equal(errno, EAGAIN);
            clock_sleep(CLOCK_MS);
        }
    }
    return count;
}

unsigned spinners_received(const struct spinners *s) {
    unsigned sum = 0;
    for (unsigned i = 0; i < s->count; i++) {
        sum += atomic_load(&s->shared->queued[i]);
    }
    return sum;
}

void spinners_let_end(const struct spinners *s, unsigned thread) {
    atomic_store(&s->shared->end[thread], true);
    while (syscall(SYS_tgkill, s->pid, s->shared->tids[thread], 0) == 0) {
        assert_true(child_is_alive(s->pid));
        clock_sleep(CLOCK_MS);
    }
}
