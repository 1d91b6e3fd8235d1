/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 *   SEIZE, INTERRUPT ─► event stop ─► registers, signal mask saved, all signals blocked
 *                                      │ SYSCALL     entry stop ─► exit stop   userfaultfd(flags)
 *                                      │                           pidfd_getfd: ours too
 *                                      │ SYSCALL     entry stop ─► exit stop   close(fd)
 *                                      ▼
 *   DETACH ◄─ registers, mask restored ◄─ event stop ◄─ INTERRUPT, CONT
 *
 * - SEIZE and INTERRUPT send no signal, so nothing in the target can notice but the thread that waits.
 * - The interrupted call restarts by itself: its result is one of the kernel's ERESTART codes, and the kernel acts on
 *   it when the thread leaves the event stop, which lies inside signal delivery. A syscall-exit stop lies outside of
 *   it, and that a detach from there happens to pass through signal delivery too is promised nowhere. Hence the second
 *   INTERRUPT.
 * - A blocked signal stays pending and is delivered when the mask is back, as if nothing had been.
 * - Single-stepping would do with fewer stops, but its SIGTRAP is forced on the thread: with SIGTRAP blocked the kernel
 *   resets the handler.
 * - If we are killed midway, the kernel detaches and the thread goes on as it is. That is why we first look for a
 *   moment in which it waits in poll or its like: see inject.h. Its signals stay blocked then, and a descriptor may be
 *   left: whoever was the witness has that put back (remote_put_back()), by the same way in.
 * - ptrace binds to our thread, not process. All of it runs in a helper thread: when that ends, whatever the reason,
 * the kernel lets go of a target that never stopped (one in uninterruptible sleep).
 */
#include "remote/remote.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "host/process.h"
#include "remote/inject.h"
#include "remote/uapi.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Attempts to catch the thread in poll or its like, then in any system call, then anywhere; 1 ms between two. */
#define ATTEMPTS_WAIT 20
#define ATTEMPTS_SYSCALL 10
#define ATTEMPTS_ANY 100
/* How long the thread may take to stop. Only uninterruptible sleep, as on a dead NFS server, takes that long. */
#define STOP_TIMEOUT (2 * CLOCK_S)
/* The kernel's sigset_t has 64 bits on all processors but MIPS. */
#define KERNEL_SIGSET_SIZE sizeof(uint64_t)

#ifndef PTRACE_GET_RSEQ_CONFIGURATION /* glibc 2.34 has it as an enumerator only */
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif

struct rseq_configuration { /* struct __ptrace_rseq_configuration */
    uint64_t rseq_abi_pointer;
    uint32_t rseq_abi_size;
    uint32_t signature;
    uint32_t flags;
    uint32_t pad;
};
#define RSEQ_CS_OFFSET 8 /* of rseq_cs in struct rseq, part of the kernel's ABI */

struct session {
    pid_t pid;
    int flags;
    int64_t *stopped_ns;
    const struct remote_witness *witness;
    struct remote_change change;
    bool putting_back; /* what `change` says, instead of making a descriptor */
    struct error *err;
    int pidfd;
    unsigned long options;  /* PTRACE_O_* */
    uint64_t fallback_site; /* a system call instruction in the vDSO, 0 for none */
    int result;             /* the descriptor, -1 on error */
};

enum stop { STOP_EVENT, STOP_SYSCALL, STOP_SIGNAL };

/* A stop that waitpid() reported; -1 when the thread ended instead. */
static int classify_stop(const struct session *s, int status, enum stop *stop) {
    if (!WIFSTOPPED(status)) {
        return error_set(s->err, ERROR_SYSTEM, "process %d ended while godwit attached to it", (int)s->pid);
    }
    if (status >> 16 == PTRACE_EVENT_STOP) {
        *stop = STOP_EVENT; /* by INTERRUPT, or because the whole process is stopped by SIGSTOP: as good */
    } else if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
        *stop = STOP_SYSCALL;
    } else {
        *stop = STOP_SIGNAL;
    }
    return 0;
}

static int ptrace_error(const struct session *s, const char *what) {
    if (errno == ESRCH) {
        return error_set(s->err, ERROR_SYSTEM, "process %d ended while godwit attached to it", (int)s->pid);
    }
    return error_errno(s->err, ERROR_SYSTEM, "%s of process %d", what, (int)s->pid);
}

/* Waits for the next stop. A thread usually gets there in microseconds, so look often at first. */
static int wait_stop(const struct session *s, int *status) {
    int64_t begin = clock_now();
    for (;;) {
        pid_t got = waitpid(s->pid, status, __WALL | WNOHANG);
        if (got > 0) {
            return 0;
        }
        if (got < 0 && errno != EINTR) {
            return ptrace_error(s, "waiting for a stop");
        }
        int64_t waited = clock_now() - begin;
        if (waited > STOP_TIMEOUT) {
            return error_set(s->err, ERROR_SYSTEM,
                             "process %d does not stop: its main thread is in uninterruptible "
                             "sleep, or its control group is frozen",
                             (int)s->pid);
        }
        if (waited < CLOCK_MS) {
            sched_yield();
        } else {
            clock_sleep(CLOCK_MS / 10);
        }
    }
}

/* Lets the thread run by `request` up to the wanted stop. Other stops (SIGSTOP and SIGCONT cannot be blocked) are
 * passed on as if we were not there. */
static int run_until(const struct session *s, int request, enum stop wanted) {
    long signal = 0;
    for (;;) {
        int status;
        enum stop stop = STOP_EVENT;
        if (ptrace((enum __ptrace_request)request, s->pid, NULL, (void *)signal) < 0) {
            return ptrace_error(s, "resuming the main thread");
        }
        if (wait_stop(s, &status) < 0 || classify_stop(s, status, &stop) < 0) {
            return -1;
        }
        if (stop == wanted) {
            return 0;
        }
        signal = stop == STOP_SIGNAL ? WSTOPSIG(status) : 0;
    }
}

static int stop_thread(const struct session *s) {
    int status;
    enum stop stop = STOP_EVENT;
    if (ptrace(PTRACE_INTERRUPT, s->pid, NULL, NULL) < 0) {
        return ptrace_error(s, "interrupting the main thread");
    }
    for (;;) {
        if (wait_stop(s, &status) < 0 || classify_stop(s, status, &stop) < 0) {
            return -1;
        }
        if (stop == STOP_EVENT) {
            return 0;
        }
        /* a signal came first: deliver it, the stop is still to come */
        long signal = stop == STOP_SIGNAL ? WSTOPSIG(status) : 0;
        if (ptrace(PTRACE_CONT, s->pid, NULL, (void *)signal) < 0) {
            return ptrace_error(s, "resuming the main thread");
        }
    }
}

/* Whether the thread is inside a restartable sequence. The kernel would have to abort that, and does not when it finds
 * the thread at our borrowed instruction instead. */
static bool in_restartable_sequence(const struct session *s) {
    struct rseq_configuration rseq = { 0 };
    long size = ptrace((enum __ptrace_request)PTRACE_GET_RSEQ_CONFIGURATION, s->pid, (void *)sizeof(rseq), &rseq);
    if (size < 0 || rseq.rseq_abi_pointer == 0) {
        return false; /* not registered */
    }
    errno = 0;
    long rseq_cs = ptrace(PTRACE_PEEKDATA, s->pid, (void *)(rseq.rseq_abi_pointer + RSEQ_CS_OFFSET), NULL);
    return errno != 0 || rseq_cs != 0;
}

/* Chooses the instruction to borrow; false when the thread is not at a place as good as `least`. */
static bool choose_site(const struct session *s, const struct inject_regs *regs, enum inject_place least,
                        uint64_t *site) {
    enum inject_place place = inject_place(s->pid, regs, site);
    if (place == INJECT_PLACE_OTHER) {
        *site = s->fallback_site;
        return least == INJECT_PLACE_OTHER && *site != 0 && !in_restartable_sequence(s);
    }
    return place >= least;
}

/* Runs one system call in the stopped thread; ends in its exit stop. */
static int call(const struct session *s, struct inject_regs *regs, uint64_t site, long nr, uint64_t argument,
                int64_t *result) {
    inject_prepare(regs, site, nr, argument);
    if (inject_write(s->pid, regs, s->err) < 0 || run_until(s, PTRACE_SYSCALL, STOP_SYSCALL) < 0 ||
        inject_read(s->pid, regs, s->err) < 0) {
        return -1;
    }
    if (inject_number(regs) != nr) {
        return error_set(s->err, ERROR_SYSTEM, "process %d entered system call %ld instead of %ld", (int)s->pid,
                         inject_number(regs), nr);
    }
    if (run_until(s, PTRACE_SYSCALL, STOP_SYSCALL) < 0 || inject_read(s->pid, regs, s->err) < 0) {
        return -1;
    }
    *result = inject_result(regs);
    return 0;
}

static int userfaultfd_error(const struct session *s, int64_t result) {
    errno = (int)-result;
    if (errno == EPERM && (s->flags & UFFD_USER_MODE_ONLY) == 0) {
        return error_set(s->err, ERROR_REFUSED,
                         "process %d has no right to a userfaultfd that sees writes by the kernel: set sysctl "
                         "vm.unprivileged_userfaultfd=1, or use Linux 6.7 or newer, where it is not needed",
                         (int)s->pid);
    }
    if (errno == EMFILE) {
        return error_set(s->err, ERROR_SYSTEM, "process %d has as many open files as it may have (RLIMIT_NOFILE)",
                         (int)s->pid);
    }
    return error_errno(s->err, ERROR_SYSTEM, "userfaultfd in process %d", (int)s->pid);
}

/* Tells the witness what is changed from here on; NULL: nothing any more. */
static int tell(const struct session *s, const struct remote_change *change) {
    return s->witness != NULL ? s->witness->changes(s->witness->opaque, change, s->err) : 0;
}

static void hold_for_test(const char *where) {
    clock_sleep(fault_value("hold-injection", where, 0) * CLOCK_MS);
}

/* Creates the descriptor in the target, takes it, and closes the target's. */
static int create_and_take(struct session *s, struct inject_regs *regs, uint64_t site) {
    int64_t remote, closed;
    if (call(s, regs, site, SYS_userfaultfd, (uint64_t)s->flags, &remote) < 0) {
        return -1;
    }
    if (remote < 0) {
        return userfaultfd_error(s, remote);
    }
    hold_for_test("made");
    s->change.fd = (int32_t)remote;
    tell(s, &s->change); /* whether it can be written down or not: it is closed in a moment */
    hold_for_test("known");
    int fd CLEANUP_CLOSE = (int)syscall(SYS_pidfd_getfd, s->pidfd, (int)remote, 0);
    if (fd < 0) {
        error_errno(s->err, ERROR_SYSTEM, "pidfd_getfd from process %d", (int)s->pid);
    }
    if (call(s, regs, site, SYS_close, (uint64_t)remote, &closed) < 0 || fd < 0) {
        return -1;
    }
    if (closed < 0) {
        errno = (int)-closed;
        return error_errno(s->err, ERROR_SYSTEM, "close(%d) in process %d", (int)remote, (int)s->pid);
    }
    s->result = take_fd(&fd);
    hold_for_test("closed");
    return 0;
}

/* Closes what was left. */
static int close_left(const struct session *s, struct inject_regs *regs, uint64_t site) {
    int64_t closed;
    return s->change.fd < 0 ? 0 : call(s, regs, site, SYS_close, (uint64_t)s->change.fd, &closed);
}

/* Back to an event stop, and there to the registers that the thread had. After a failure before the first injected call
 * ran it is one event stop too many, which does no harm. */
static int restore(const struct session *s, const struct inject_regs *saved, uint64_t mask) {
    if (ptrace(PTRACE_INTERRUPT, s->pid, NULL, NULL) < 0) {
        return ptrace_error(s, "interrupting the main thread");
    }
    if (run_until(s, PTRACE_CONT, STOP_EVENT) < 0 || inject_write(s->pid, saved, s->err) < 0) {
        return -1;
    }
    if (ptrace(PTRACE_SETSIGMASK, s->pid, (void *)KERNEL_SIGSET_SIZE, &mask) < 0) {
        return ptrace_error(s, "restoring the signal mask");
    }
    return 0;
}

/* What a thread has whose signals we blocked; SIGKILL and SIGSTOP can't be. */
#define ALL_SIGNALS (~UINT64_C(0))
#define ALL_BLOCKED (ALL_SIGNALS & ~(UINT64_C(1) << (SIGKILL - 1)) & ~(UINT64_C(1) << (SIGSTOP - 1)))

/* Blocks all signals; the mask that the thread is to have afterwards is in the change from here on. */
static int block_signals(struct session *s) {
    uint64_t mask, all = ALL_SIGNALS;
    if (ptrace(PTRACE_GETSIGMASK, s->pid, (void *)KERNEL_SIGSET_SIZE, &mask) < 0) {
        return ptrace_error(s, "reading the signal mask");
    }
    if (!s->putting_back || mask != ALL_BLOCKED) {
        s->change.mask = mask;
    }
    if (!s->putting_back && tell(s, &s->change) < 0) {
        return -1;
    }
    if (ptrace(PTRACE_SETSIGMASK, s->pid, (void *)KERNEL_SIGSET_SIZE, &all) < 0) {
        return ptrace_error(s, "blocking signals");
    }
    if (!s->putting_back) {
        hold_for_test("blocked");
    }
    return 0;
}

/* With the thread in an event stop. Returns 1 when done, 0 when it is not at a good place, -1 on error. */
static int inject(struct session *s, enum inject_place least) {
    struct inject_regs saved;
    uint64_t site;
    if (inject_read(s->pid, &saved, s->err) < 0) {
        return -1;
    }
    if (!choose_site(s, &saved, least, &site)) {
        return 0;
    }
    if (block_signals(s) < 0) {
        return -1;
    }
    struct inject_regs regs = saved;
    int done = s->putting_back ? close_left(s, &regs, site) : create_and_take(s, &regs, site);
    if (restore(s, &saved, s->change.mask) < 0) {
        return -1; /* the witness knows what is left */
    }
    tell(s, NULL);
    return done < 0 ? -1 : 1;
}

static int seize_error(const struct session *s) {
    if (errno == EPERM) {
        char name[32];
        struct error ignored = { 0 };
        pid_t tracer = process_tracer(s->pid, &ignored);
        if (tracer > 0) {
            process_name(tracer, name, sizeof(name));
            return error_set(s->err, ERROR_REFUSED, "process %d is already traced by process %d (%s): end that first",
                             (int)s->pid, (int)tracer, name);
        }
        bool filtered = (s->options & PTRACE_O_SUSPEND_SECCOMP) != 0;
        return error_set(s->err, ERROR_SYSTEM,
                         "no right to ptrace process %d: CAP_SYS_PTRACE is needed%s, and "
                         "kernel.yama.ptrace_scope below 3",
                         (int)s->pid, filtered ? ", CAP_SYS_ADMIN too because it has a seccomp filter" : "");
    }
    if (errno == EINVAL && (s->options & PTRACE_O_SUSPEND_SECCOMP) != 0) {
        return error_set(s->err, ERROR_REFUSED,
                         "process %d has a seccomp filter, and this kernel cannot suspend one "
                         "(CONFIG_CHECKPOINT_RESTORE is needed)",
                         (int)s->pid);
    }
    return ptrace_error(s, "PTRACE_SEIZE");
}

static int attempt(struct session *s, enum inject_place least) {
    if (ptrace(PTRACE_SEIZE, s->pid, NULL, (void *)s->options) < 0) {
        return seize_error(s);
    }
    int64_t begin = clock_now();
    int done = stop_thread(s);
    if (done < 0) {
        return -1; /* it never stopped: the end of this thread lets go of it */
    }
    done = inject(s, least);
    if (ptrace(PTRACE_DETACH, s->pid, NULL, NULL) < 0 && done == 0) {
        done = ptrace_error(s, "PTRACE_DETACH");
    }
    if (s->stopped_ns != NULL) {
        *s->stopped_ns += clock_now() - begin;
    }
    return done;
}

static void *session_thread(void *opaque) {
    struct session *s = opaque;
    int done = 0;
    for (int i = 0; done == 0 && i < ATTEMPTS_WAIT + ATTEMPTS_SYSCALL + ATTEMPTS_ANY; i++) {
        if (i > 0) {
            clock_sleep(CLOCK_MS);
        }
        done = attempt(s, i < ATTEMPTS_WAIT                      ? INJECT_PLACE_WAIT
                          : i < ATTEMPTS_WAIT + ATTEMPTS_SYSCALL ? INJECT_PLACE_SYSCALL
                                                                 : INJECT_PLACE_OTHER);
    }
    if (done == 0) {
        error_set(s->err, ERROR_SYSTEM, "process %d was never at a place where godwit can run a system call in it",
                  (int)s->pid);
    }
    if (done <= 0 && s->result >= 0) {
        close(s->result);
        s->result = -1;
    }
    return NULL;
}

/* A system call instruction in the target's vDSO, looked for before anything is stopped; 0 when there is none. */
static int find_fallback_site(struct session *s) {
    struct mapping *maps CLEANUP_FREE = NULL;
    size_t count;
    if (process_mappings(s->pid, &maps, &count, s->err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(maps[i].path, "[vdso]") != 0) {
            continue;
        }
        uint8_t code[16384];
        char path[48];
        snprintf(path, sizeof(path), "/proc/%d/mem", (int)s->pid);
        int fd CLEANUP_CLOSE = open(path, O_RDONLY | O_CLOEXEC);
        size_t length = (size_t)(maps[i].end - maps[i].start);
        ssize_t n = pread(fd, code, length < sizeof(code) ? length : sizeof(code), (off_t)maps[i].start);
        int64_t offset = n > 0 ? inject_find(code, (size_t)n) : -1;
        s->fallback_site = offset >= 0 ? maps[i].start + (uint64_t)offset : 0;
    }
    return 0;
}

/* A filter might answer userfaultfd() by killing the guest. Have the kernel suspend it while we trace, and do nothing
 * where it cannot. */
static int find_options(struct session *s) {
    int64_t seccomp = process_status_number(s->pid, "Seccomp", s->err);
    if (seccomp < 0) {
        return -1;
    }
    s->options = PTRACE_O_TRACESYSGOOD;
    if (seccomp == 0) {
        return 0;
    }
    int64_t own = process_status_number(getpid(), "Seccomp", s->err);
    if (own != 0) {
        return error_set(s->err, ERROR_REFUSED,
                         "process %d has a seccomp filter, which godwit can only suspend when it "
                         "has none itself",
                         (int)s->pid);
    }
    s->options |= PTRACE_O_SUSPEND_SECCOMP;
    return 0;
}

static bool is_userfaultfd(pid_t pid, const char *name) {
    char path[64], link[64];
    snprintf(path, sizeof(path), "/proc/%d/fd/%.16s", (int)pid, name);
    ssize_t n = readlink(path, link, sizeof(link) - 1);
    link[n > 0 ? n : 0] = '\0';
    return strcmp(link, "anon_inode:[userfaultfd]") == 0;
}

/* The userfaultfds that a process has, the first `most` of them; the rest of `fds` is -1. */
static int find_userfaultfds(pid_t pid, int32_t *fds, size_t most, struct error *err) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return error_errno(err, ERROR_SYSTEM, "cannot read %s", path);
    }
    size_t n = 0;
    for (struct dirent *entry; n < most && (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != '.' && is_userfaultfd(pid, entry->d_name)) {
            fds[n++] = (int32_t)strtol(entry->d_name, NULL, 10);
        }
    }
    for (; n < most; n++) {
        fds[n] = -1;
    }
    closedir(dir);
    return 0;
}

static bool is_other(const struct remote_change *c, int32_t fd) {
    for (size_t i = 0; i < REMOTE_OTHERS; i++) {
        if (c->others[i] == fd) {
            return true;
        }
    }
    return false;
}

/* Runs the session in a thread of its own. */
static int run_session(struct session *s) {
    if (find_options(s) < 0 || find_fallback_site(s) < 0) {
        return -1;
    }
    int pidfd CLEANUP_CLOSE = (int)syscall(SYS_pidfd_open, s->pid, 0);
    if (pidfd < 0) {
        return error_errno(s->err, ERROR_SYSTEM, "pidfd_open of process %d (Linux 5.6 is needed)", (int)s->pid);
    }
    s->pidfd = pidfd;
    pthread_t thread;
    errno = pthread_create(&thread, NULL, session_thread, s);
    if (errno != 0) {
        return error_errno(s->err, ERROR_SYSTEM, "cannot start a thread");
    }
    pthread_join(thread, NULL);
    return 0;
}

int remote_userfaultfd(pid_t pid, int flags, int64_t *stopped_ns, const struct remote_witness *witness,
                       struct error *err) {
    struct session s = { .pid = pid,
                         .flags = flags,
                         .stopped_ns = stopped_ns,
                         .witness = witness,
                         .change = { .pid = pid, .fd = -1 },
                         .err = err,
                         .result = -1 };
    if (stopped_ns != NULL) {
        *stopped_ns = 0;
    }
    if (witness != NULL && find_userfaultfds(pid, s.change.others, REMOTE_OTHERS, err) < 0) {
        return -1;
    }
    return run_session(&s) < 0 ? -1 : s.result;
}

/* The descriptor that was left, or -1. Its number was not known yet when we were killed right behind the call. */
static int32_t find_left(const struct remote_change *c, struct error *err) {
    int32_t now[2 * REMOTE_OTHERS];
    if (find_userfaultfds(c->pid, now, 2 * REMOTE_OTHERS, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < 2 * REMOTE_OTHERS; i++) {
        if (now[i] >= 0 && !is_other(c, now[i]) && (c->fd < 0 || c->fd == now[i])) {
            return now[i];
        }
    }
    return -1;
}

int remote_put_back(const struct remote_change *change, struct error *err) {
    struct session s = { .pid = change->pid, .change = *change, .putting_back = true, .err = err, .result = -1 };
    s.change.fd = find_left(change, err);
    return error_is_set(err) || run_session(&s) < 0 || error_is_set(err) ? -1 : 0;
}
