/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ptrace binds to a thread of ours, so there is one for it. It lives as long as the pin, and its end is what lets go:
 * the kernel detaches a thread that runs without stopping it.
 *
 * Stops are looked at and not consumed (WNOWAIT): should we die before we have said that a signal may be delivered, the
 * kernel delivers it. For ends nobody is ever waited for (no WEXITED): that would set the id free.
 */
#include "remote/pin.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MS 20

struct pin {
    pid_t pid;
    pthread_t thread;
    int end; /* eventfd: the thread is to end */
    sem_t begun;
    int failed; /* errno of PTRACE_SEIZE; written before `begun` */
};

static bool is_group_stop(int signal) {
    return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

/* Lets the thread go on from whatever it has stopped for. */
static void pass_on(pid_t pid) {
    siginfo_t info = { 0 };
    if (waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOHANG | WNOWAIT | __WALL) < 0 || info.si_pid == 0) {
        return;
    }
    int signal = info.si_status & 0x7f, event = info.si_status >> 8;
    if (event == PTRACE_EVENT_STOP && is_group_stop(signal)) {
        ptrace(PTRACE_LISTEN, pid, NULL, NULL); /* it stays stopped, until a SIGCONT */
    } else {
        ptrace(PTRACE_CONT, pid, NULL,
               (void *)(intptr_t)(event != 0 ? 0 : signal)); /* NOLINT(performance-no-int-to-ptr) */
    }
}

static void *hold(void *opaque) {
    struct pin *p = opaque;
    pthread_setname_np(pthread_self(), "pin");
    p->failed = ptrace(PTRACE_SEIZE, p->pid, NULL, NULL) < 0 ? errno : 0;
    bool holds = p->failed == 0;
    sem_post(&p->begun);
    struct pollfd end = { .fd = p->end, .events = POLLIN };
    while (holds && poll(&end, 1, LOOK_MS) <= 0) {
        pass_on(p->pid);
    }
    return NULL;
}

struct pin *pin_open(pid_t pid, struct error *err) {
    struct pin *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory to hold process %d", (int)pid);
        return NULL;
    }
    *p = (struct pin){ .pid = pid, .end = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    sem_init(&p->begun, 0, 0);
    if (p->end < 0 || (errno = pthread_create(&p->thread, NULL, hold, p)) != 0) {
        error_errno(err, ERROR_SYSTEM, "cannot start a thread to hold process %d", (int)pid);
        if (p->end >= 0) {
            close(p->end);
        }
        free(p);
        return NULL;
    }
    while (sem_wait(&p->begun) < 0) {
    }
    if (p->failed != 0) {
        errno = p->failed;
        error_errno(err, ERROR_SYSTEM, "process %d cannot be traced", (int)pid);
        pin_close(p);
        return NULL;
    }
    return p;
}

void pin_close(struct pin *p) {
    if (p == NULL) {
        return;
    }
    eventfd_write(p->end, 1);
    pthread_join(p->thread, NULL);
    close(p->end);
    sem_destroy(&p->begun);
    free(p);
}
