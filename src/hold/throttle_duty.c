/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 *            hold                                  run
 *   ├─ SEIZE, INTERRUPT each ── wait ── DETACH each ─┼── wait ──┼─ SEIZE, INTERRUPT each ── …
 *
 * - All threads are stopped in the same phase: a vCPU that runs while another one is held would spin on the other's
 *   locks.
 * - While the guest runs it has no tracer, so signals (QEMU kicks its vCPUs with SIG_IPI) cost nothing, and a debugger
 *   or crash handler finds what it expects. To attach anew in each period costs us some 5 us of CPU a thread; the rest
 *   (30 us on a busy virtual machine) a tracer that stays would pay too.
 * - ptrace binds to a thread of ours: the duty thread. It lives only while a throttle is in force. When it ends,
 *   whatever the reason, SIGKILL of our process too, the kernel lets go of all that it traces.
 * - Stops are looked at with WNOWAIT and never consumed. A thread may be in the stop before a signal is delivered; the
 *   kernel keeps the signal's number in the place that a consuming wait clears. Not consumed, the signal is delivered
 *   also when we die before we could say so at DETACH.
 * - A thread in any kind of stop is held, so no stop is better than another: event stop (what INTERRUPT asked for),
 *   group stop (SIGSTOP of the process; DETACH leaves the thread in it), or before the delivery of a signal, which
 *   DETACH then delivers. Whatever else comes meanwhile stays pending, in its order.
 * - Nobody waits for a thread to stop. One that runs stops at once; one that waits for a CPU does no work; one in
 *   uninterruptible sleep stops when that is over: it stays asked, is looked at every millisecond, and is let go when
 * it stops in the guest's share of the time. DETACH works on stopped threads only; when the throttle ends first, the
 *   end of the duty thread lets go of it.
 * - Sleeps end late, and on a busy machine much later. So how long the guest is held is derived from how long it really
 *   ran.
 * - Who holds a guest back has to keep deciding that. A caller that waits for a slow disk or a slow peer does not, and
 *   the guest runs until it is asked again (throttle_config.attention).
 * - A thread that is stopped while it has one of the VMM's locks makes the others wait for that share of a period. That
 *   is why a period is short.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "hold/throttle_ops.h"
#include "host/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

/* Long enough that a thread which has to wait for a CPU first still gets one in its share: with 5 ms and 90 % a guest
 * on a busy host got nothing at all. */
#define PERIOD (20 * CLOCK_MS)
/* Of the guest, in each period, however little time it gets: 99 % is a period of 50 ms. */
#define RUN_LEAST (CLOCK_MS / 2)
/* Between two looks at a thread that did not stop. */
#define LOOK_AGAIN CLOCK_MS
/* At the end, for threads that were only just asked to stop: this often, with this pause. */
#define LAST_LOOKS 20
#define LAST_PAUSE (CLOCK_MS / 20)

struct vcpu {
    pid_t tid;
    int proc;    /* its folder in /proc, which does not become another thread's with the id; -1: it ended */
    bool traced; /* by the duty thread; its stop is asked for */
};

struct duty {
    pid_t pid;
    pthread_t thread;
    bool running;       /* the thread was started and not waited for; only the caller's thread looks */
    struct vcpu *vcpus; /* the duty thread's while it runs */
    size_t count;
    pid_t tid;     /* the duty thread's; valid once it has ended */
    bool leftover; /* likewise: it ended while a thread had not stopped */

    /* Guards what follows; never held around a system call on a vCPU. */
    pthread_mutex_t lock;
    pthread_cond_t
        changed; /* on CLOCK_MONOTONIC: percent or quit for the duty thread, begun or failure for the caller */
    unsigned percent;
    int64_t attention, asked_at; /* ns; when the caller was heard of last */
    bool quit;
    bool begun;           /* all threads were asked to stop once */
    struct error failure; /* why the thread ended by itself */
    bool holding;
    int64_t held_since; /* while holding */
    int64_t held_ns;    /* in earlier periods */
};

static int64_t run_slice(const struct duty *d) {
    int64_t slice = PERIOD * (100 - d->percent) / 100;
    return slice > RUN_LEAST ? slice : RUN_LEAST;
}

/* How long to hold threads that ran for `ran`. Not without an end if they ran much longer than they should have: it
 * would freeze the guest for what is the fault of this machine's scheduler. */
static int64_t hold_slice(const struct duty *d, int64_t ran) {
    int64_t most = 2 * run_slice(d);
    return (ran < most ? ran : most) * d->percent / (100 - d->percent);
}

static bool has_ended(const struct vcpu *v) {
    return faccessat(v->proc, "stat", F_OK, 0) < 0 || process_has_ended(v->tid);
}

static void forget(struct vcpu *v) {
    close(v->proc);
    v->proc = -1;
    v->traced = false;
}

static int seize_error(const struct duty *d, const struct vcpu *v, struct error *err) {
    int error = errno;
    char name[32];
    struct error ignored = { 0 };
    pid_t tracer = process_tracer(v->tid, &ignored);
    if (error == EPERM && tracer > 0) {
        process_name(tracer, name, sizeof(name));
        return error_set(err, ERROR_REFUSED,
                         "cannot throttle: thread %d of process %d is traced by process %d (%s): end that first",
                         (int)v->tid, (int)d->pid, (int)tracer, name);
    }
    errno = error;
    return error_errno(err, ERROR_SYSTEM, "cannot throttle thread %d of process %d (CAP_SYS_PTRACE is needed)",
                       (int)v->tid, (int)d->pid);
}

/* Asks the thread to stop. One that ended is forgotten. */
static int ask(const struct duty *d, struct vcpu *v, struct error *err) {
    if (ptrace(PTRACE_SEIZE, v->tid, NULL, NULL) < 0) {
        if (errno == ESRCH || has_ended(v)) {
            forget(v);
            return 0;
        }
        return seize_error(d, v, err);
    }
    v->traced = true;
    /* If the id was given to a new thread in the microsecond since ask_all() looked, a stranger is held, once: it is
     * let go with the others, and forgotten at the next look. A thread that ended in between is reaped in let_go(). */
    ptrace(PTRACE_INTERRUPT, v->tid, NULL, NULL);
    return 0;
}

/* Lets a thread run on that has stopped; others stay traced. */
static void let_go(struct vcpu *v) {
    siginfo_t info = { 0 };
    if (waitid(P_PID, (id_t)v->tid, &info, WSTOPPED | WEXITED | WNOHANG | WNOWAIT | __WALL) < 0) {
        forget(v);
        return;
    }
    if (info.si_pid == 0) {
        return;
    }
    if (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED) {
        /* a thread that ends traced waits for its tracer */
        waitid(P_PID, (id_t)v->tid, &info, WEXITED | WNOHANG | __WALL);
        forget(v);
        return;
    }
    long signal = info.si_status >> 8 == 0 ? info.si_status : 0;
    if (ptrace(PTRACE_DETACH, v->tid, NULL, (void *)signal) == 0) {
        v->traced = false;
    } /* else it is being killed, and is reaped when we look again */
}

/* Asks all threads; *at is when, in the mean. */
static int ask_all(struct duty *d, int64_t *at, struct error *err) {
    int64_t begin = clock_now();
    size_t alive = 0;
    for (size_t i = 0; i < d->count; i++) {
        struct vcpu *v = &d->vcpus[i];
        if (v->proc >= 0 && !v->traced && faccessat(v->proc, "stat", F_OK, 0) < 0) {
            forget(v);
        }
        if (v->proc >= 0 && !v->traced && ask(d, v, err) < 0) {
            return -1;
        }
        alive += v->proc >= 0;
    }
    *at = (begin + clock_now()) / 2;
    if (alive == 0) {
        return error_set(err, ERROR_VMM, "cannot throttle: all vCPU threads of process %d have ended", (int)d->pid);
    }
    return 0;
}

/* Returns how many have not stopped. */
static size_t let_all_go(struct duty *d) {
    size_t left = 0;
    for (size_t i = 0; i < d->count; i++) {
        if (d->vcpus[i].traced) {
            let_go(&d->vcpus[i]);
            left += d->vcpus[i].traced;
        }
    }
    return left;
}

static void wait_until(struct duty *d, int64_t deadline) {
    struct timespec t = { .tv_sec = deadline / CLOCK_S, .tv_nsec = deadline % CLOCK_S };
    pthread_cond_timedwait(&d->changed, &d->lock, &t);
}

/* The held share of a period, begun at `stopped` after the threads ran for `ran` (negative: as they should). */
static void hold(struct duty *d, int64_t stopped, int64_t ran) {
    LOCK_GUARD(&d->lock);
    d->begun = true;
    d->holding = true;
    d->held_since = stopped;
    pthread_cond_broadcast(&d->changed);
    for (;;) {
        int64_t deadline = stopped + hold_slice(d, ran < 0 ? run_slice(d) : ran);
        if (d->quit || clock_now() >= deadline) {
            return;
        }
        wait_until(d, deadline);
    }
}

/* Lets the threads go, at *released in the mean. Returns how many have not stopped. */
static size_t end_hold(struct duty *d, int64_t *released) {
    int64_t begin = clock_now();
    size_t left = let_all_go(d);
    *released = (begin + clock_now()) / 2;
    LOCK_GUARD(&d->lock);
    d->holding = false;
    d->held_ns += *released - d->held_since;
    return left;
}

static bool is_forgotten(const struct duty *d, int64_t now) {
    return d->attention > 0 && now - d->asked_at > d->attention;
}

/* The caller looks after the throttle; a duty thread that waits to be remembered goes on. Under the lock. */
static void remember(struct duty *d) {
    int64_t now = clock_now();
    if (is_forgotten(d, now)) {
        pthread_cond_broadcast(&d->changed);
    }
    d->asked_at = now;
}

static int64_t run_until(const struct duty *d, int64_t released, int64_t now) {
    return is_forgotten(d, now) ? now + CLOCK_S : released + run_slice(d);
}

/* The guest's share. False: the throttle ends. */
static bool run_guest(struct duty *d, int64_t released, size_t left) {
    for (;;) {
        pthread_mutex_lock(&d->lock);
        int64_t now = clock_now(), deadline = run_until(d, released, now);
        bool quit = d->quit;
        if (!quit && now < deadline) {
            wait_until(d, left > 0 && now + LOOK_AGAIN < deadline ? now + LOOK_AGAIN : deadline);
        }
        pthread_mutex_unlock(&d->lock);
        if (quit || now >= deadline) {
            return !quit;
        }
        left = left > 0 ? let_all_go(d) : 0;
    }
}

static void run_periods(struct duty *d, struct error *err) {
    int64_t stopped, released = -1;
    size_t left;
    do {
        if (ask_all(d, &stopped, err) < 0) {
            return;
        }
        hold(d, stopped, released < 0 ? -1 : stopped - released);
        left = end_hold(d, &released);
    } while (run_guest(d, released, left));
}

static void *run(void *opaque) {
    struct duty *d = opaque;
    pthread_setname_np(pthread_self(), "duty");
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    /* It runs for microseconds, and each that it is late falsifies a share. Where that is not allowed it is not needed
     * badly. */
    setpriority(PRIO_PROCESS, 0, -10);
    struct error err = { 0 };
    run_periods(d, &err);
    size_t left = let_all_go(d);
    for (int i = 0; left > 0 && i < LAST_LOOKS; i++) {
        clock_sleep(LAST_PAUSE);
        left = let_all_go(d);
    }
    d->tid = (pid_t)syscall(SYS_gettid);
    d->leftover = left > 0;
    for (size_t i = 0; i < d->count; i++) {
        d->vcpus[i].traced = false; /* with the end of this thread */
    }
    LOCK_GUARD(&d->lock);
    d->failure = err;
    pthread_cond_broadcast(&d->changed);
    return NULL;
}

static bool has_failed(struct duty *d) {
    LOCK_GUARD(&d->lock);
    return error_is_set(&d->failure);
}

/* pthread_join() returns a little before the kernel lets go of what the thread still traces. It has when the id is no
 * longer taken. */
static void wait_for_kernel(const struct duty *d) {
    int64_t deadline = clock_now() + CLOCK_S;
    while (syscall(SYS_tgkill, getpid(), d->tid, 0) == 0 && clock_now() < deadline) {
        clock_sleep(LAST_PAUSE);
    }
}

/* Ends the duty thread, if it runs. */
static void end_thread(struct duty *d) {
    if (!d->running) {
        return;
    }
    pthread_mutex_lock(&d->lock);
    d->quit = true;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    d->running = false;
    if (d->leftover) {
        wait_for_kernel(d);
    }
}

static int start_thread(struct duty *d, unsigned percent, struct error *err) {
    sigset_t all, old;
    d->percent = percent;
    d->asked_at = clock_now();
    d->quit = d->begun = d->holding = false;
    error_clear(&d->failure);
    /* the guest waits on this thread: no signal handler shall run on it */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    errno = pthread_create(&d->thread, NULL, run, d);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (errno != 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot start a thread");
    }
    d->running = true;
    LOCK_GUARD(&d->lock);
    while (!d->begun && !error_is_set(&d->failure)) {
        pthread_cond_wait(&d->changed, &d->lock);
    }
    return 0;
}

/* A failed duty thread is waited for and its reason handed on. */
static int end_failed(struct duty *d, struct error *err) {
    end_thread(d);
    return error_set(err, d->failure.class, "%s", d->failure.desc);
}

static int duty_hold(struct throttle *t, unsigned percent, struct error *err) {
    struct duty *d = t->state;
    if (d->running && !has_failed(d)) {
        LOCK_GUARD(&d->lock);
        d->percent = percent;
        d->asked_at = clock_now();
        pthread_cond_broadcast(&d->changed);
        return 0;
    }
    end_thread(d);
    if (start_thread(d, percent, err) < 0) {
        return -1;
    }
    return has_failed(d) ? end_failed(d, err) : 0;
}

static int duty_release(struct throttle *t, struct error *err) {
    (void)err;
    end_thread(t->state);
    return 0;
}

static int duty_check(struct throttle *t, struct error *err) {
    struct duty *d = t->state;
    if (d->running && has_failed(d)) {
        return end_failed(d, err);
    }
    LOCK_GUARD(&d->lock);
    remember(d);
    return 0;
}

static void duty_mind(struct throttle *t, int64_t attention) {
    struct duty *d = t->state;
    LOCK_GUARD(&d->lock);
    remember(d);
    d->attention = attention;
}

static int64_t duty_held_ns(struct throttle *t) {
    struct duty *d = t->state;
    LOCK_GUARD(&d->lock);
    int64_t now = d->holding ? clock_now() - d->held_since : 0;
    return d->held_ns + (now > 0 ? now : 0);
}

/* Whether we may trace it is asked by opening its memory, for which the kernel wants the same rights. */
static int check_rights(const struct duty *d, const struct vcpu *v, struct error *err) {
    struct error ignored = { 0 };
    if (process_tracer(v->tid, &ignored) > 0) {
        errno = EPERM;
        return seize_error(d, v, err);
    }
    int memory CLEANUP_CLOSE = openat(v->proc, "mem", O_RDONLY | O_CLOEXEC);
    return memory < 0 ? seize_error(d, v, err) : 0;
}

static int open_vcpu(struct throttle *t, struct vcpu *v, pid_t tid, struct error *err) {
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/proc/%d/task/%d", t->config.root, (int)t->config.pid, (int)tid);
    v->tid = tid;
    v->proc = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (v->proc < 0) {
        return error_errno(err, ERROR_REFUSED, "cannot throttle: thread %d is not one of process %d", (int)tid,
                           (int)t->config.pid);
    }
    return check_rights(t->state, v, err);
}

static int duty_open(struct throttle *t, struct error *err) {
    struct duty *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return error_set(err, ERROR_SYSTEM, "out of memory");
    }
    t->state = d;
    d->pid = t->config.pid;
    d->attention = t->config.attention;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&d->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&d->lock, NULL);
    d->vcpus = calloc(t->count, sizeof(*d->vcpus));
    if (d->vcpus == NULL) {
        return error_set(err, ERROR_SYSTEM, "out of memory");
    }
    for (; d->count < t->count; d->count++) {
        if (open_vcpu(t, &d->vcpus[d->count], t->threads[d->count], err) < 0) {
            d->count += d->vcpus[d->count].proc >= 0;
            return -1;
        }
    }
    return 0;
}

static void duty_close(struct throttle *t) {
    struct duty *d = t->state;
    if (d == NULL) {
        return;
    }
    for (size_t i = 0; i < d->count; i++) {
        if (d->vcpus[i].proc >= 0) {
            close(d->vcpus[i].proc);
        }
    }
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->lock);
    free(d->vcpus);
    free(d);
}

const struct throttle_ops throttle_duty_ops = {
    .kind = THROTTLE_DUTY,
    .open = duty_open,
    .hold = duty_hold,
    .release = duty_release,
    .check = duty_check,
    .mind = duty_mind,
    .held_ns = duty_held_ns,
    .close = duty_close,
};
