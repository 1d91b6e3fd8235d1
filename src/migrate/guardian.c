/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/guardian.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "host/process.h"
#include "ledger/ledger.h"
#include "migrate/changed_files.h"
#include "migrate/injection.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_INTERVAL (250 * CLOCK_MS)
#define SECOND_LOOK (100 * CLOCK_MS)
#define SILENCE (3 * CLOCK_S)
/* A killed process has ended after so long, or waits in the kernel for something that may never come. */
#define END_PATIENCE CLOCK_S

enum ending { DISMISSED, DIED, HUNG };

/* What the guardian process knows. */
struct watch {
    int channel, engine; /* the engine's pidfd */
    pid_t engine_pid;
    struct vmm *vmm;
    int64_t looked_at, silent; /* ns */
    int64_t last_silence;
    bool overdue; /* its word, at the last look */
};

/* How long the engine has been silent, in time that the guardian was awake for too: when the whole host stood still
 * (suspended, or a guest itself) nobody is to blame. */
static bool engine_hangs(struct watch *w) {
    struct ledger *l = w->vmm->ledger;
    int64_t now = clock_now(), since = now - w->looked_at, silence = ledger_silence(l);
    bool beat = silence < w->last_silence || silence < LOOK_INTERVAL;
    w->looked_at = now;
    w->last_silence = silence;
    if (beat || ledger_standing(l) == 0 || ledger_owner(l) != LEDGER_SOURCE) {
        w->silent = 0;
        return false;
    }
    w->silent += since < 2 * LOOK_INTERVAL ? since : 2 * LOOK_INTERVAL;
    return w->silent >= SILENCE && silence >= SILENCE;
}

/* Behind the hand-over an engine that hangs is left alone as long as its word may still be of use: to end it could only
 * turn a hand-over that would yet go through into one in doubt. When the other side has given up waiting it is in doubt
 * anyway, and somebody has to say so here. Two looks: one that was asleep with its host is given the time to. */
static bool word_is_missing(struct watch *w) {
    const struct ledger *l = w->vmm->ledger;
    bool before = w->overdue;
    w->overdue = ledger_owner(l) != LEDGER_SOURCE && !ledger_has_run(l) && ledger_word_is_overdue(l);
    return before && w->overdue;
}

/* A process in a frozen control group of version 1 cannot even be killed: out of it, it can. */
static void thaw(pid_t pid) {
    char text[16];
    int fd CLEANUP_CLOSE = open("/sys/fs/cgroup/freezer/cgroup.procs", O_WRONLY | O_CLOEXEC);
    int n = snprintf(text, sizeof(text), "%d", (int)pid);
    if (fd >= 0 && write(fd, text, (size_t)n) < 0) {
        log_debug("the engine stays in its control group: %s", strerror(errno));
    }
}

static bool has_ended(const struct watch *w, int64_t timeout) {
    struct pollfd p = { .fd = w->engine, .events = POLLIN };
    return poll(&p, 1, (int)(timeout / CLOCK_MS)) > 0;
}

static void end_engine(const struct watch *w) {
    if (syscall(SYS_pidfd_send_signal, w->engine, SIGKILL, NULL, 0) < 0 && errno != ESRCH) {
        log_error("the engine hangs, and cannot be ended: %s", strerror(errno));
    }
    if (!has_ended(w, LOOK_INTERVAL)) {
        thaw(w->engine_pid);
        has_ended(w, END_PATIENCE); /* if not: it does not come back to use the monitor, a killed process doesn't */
    }
}

static enum ending wait_for_engine(struct watch *w) {
    w->looked_at = clock_now();
    for (;;) {
        struct pollfd p = { .fd = w->channel, .events = POLLIN };
        int n = poll(&p, 1, (int)((w->overdue ? SECOND_LOOK : LOOK_INTERVAL) / CLOCK_MS));
        if (n > 0) {
            char word;
            ssize_t got = read(w->channel, &word, 1);
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got == 1) {
                return DISMISSED;
            }
            has_ended(w, END_PATIENCE); /* what it had goes at its very end */
            return DIED;
        }
        if (engine_hangs(w) || word_is_missing(w)) {
            end_engine(w);
            return HUNG;
        }
    }
}

#define UNDO_PATIENCE (3600 * CLOCK_S)
#define UNDO_PAUSE CLOCK_S

/* A VMM that hangs (in a drain of a dead disk) may answer again; patience costs nobody anything here. */
static int undo_patiently(struct vmm *vmm, bool resume, struct error *err) {
    int64_t deadline = clock_now() + UNDO_PATIENCE;
    while (vmm->ops->undo(vmm, resume, err) < 0) {
        bool gone = vmm->pid > 0 && process_has_ended(vmm->pid);
        if (gone || clock_now() > deadline) {
            return -1;
        }
        error_clear(err);
        clock_sleep(UNDO_PAUSE);
    }
    return 0;
}

static const char *how(enum ending ending) {
    return ending == HUNG ? "the engine hung while the guest waited for it, and was ended" : "the engine died";
}

static int undo_source(struct watch *w, enum ending ending) {
    struct error err = { 0 };
    bool resume = ledger_owner(w->vmm->ledger) == LEDGER_SOURCE;
    if (undo_patiently(w->vmm, resume, &err) < 0) {
        log_error("%s, and what it had changed could not be put back: %s", how(ending), err.desc);
        return 1;
    }
    log_warning("%s; %s", how(ending),
                resume ? "the guest runs on at the source as before"
                       : "the guest was handed over and stays paused at the source: 'godwit resolve' says more");
    return 0;
}

static int leave_destination(struct watch *w) {
    struct ledger *l = w->vmm->ledger;
    struct error err = { 0 };
    bool running = false;
    if (w->vmm->ops->discard(w->vmm, &err) < 0) {
        log_debug("discard: %s", err.desc);
    }
    error_clear(&err);
    if (ledger_owner(l) == LEDGER_DESTINATION && w->vmm->ops->guest_running(w->vmm, &running, &err) == 0 && running) {
        ledger_note_ran(l);
    }
    if (ledger_has_run(l)) {
        log_warning("the engine died; the guest was handed over and runs here");
    } else if (ledger_owner(l) == LEDGER_SOURCE) {
        log_warning("the engine died; the guest was not taken over");
    } else {
        log_warning("the engine died; the guest is complete and stays paused here, and %s: 'godwit resolve' says more",
                    ledger_owner(l) == LEDGER_NOBODY ? "it is not known whether the source has handed it over"
                                                     : "the source has handed it over");
    }
    return 0;
}

/* The OOM killer takes others first: without us a stopped guest has nobody. And whoever freezes the engine's control
 * group is not to freeze us too. Both only with the rights to. */
static void stay_alive(void) {
    static const struct {
        const char *path, *text;
    } wishes[] = { { "/proc/self/oom_score_adj", "-1000" },
                   { "/sys/fs/cgroup/freezer/cgroup.procs", "0" },
                   { "/sys/fs/cgroup/cgroup.procs", "0" } };
    for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++) {
        int fd CLEANUP_CLOSE = open(wishes[i].path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0 && write(fd, wishes[i].text, strlen(wishes[i].text)) < 0) {
            log_debug("guardian: %s: %s", wishes[i].path, strerror(errno));
        }
    }
}

static _Noreturn void guard(struct watch *w) {
    struct ledger *l = w->vmm->ledger;
    prctl(PR_SET_NAME, "godwit guardian");
    setsid(); /* Ctrl-C is for the engine, which then tells us that it is done */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    stay_alive();
    enum ending ending = wait_for_engine(w);
    if (ending == DISMISSED) {
        _exit(0);
    }
    log_setup("godwit guardian", LOG_INFO);
    ledger_stand(l, LEDGER_HELD | LEDGER_ATTACHED | LEDGER_SERVED, false); /* by the kernel, at its end */
    injection_put_back(l, w->vmm->pid);
    changed_files_put_back(l, true); /* before the VMM, which may need all its CPU to answer */
    int status = ledger_side(l) == LEDGER_AT_SOURCE ? undo_source(w, ending) : leave_destination(w);
    ledger_close(l, true);
    _exit(status);
}

int guardian_start(struct guardian *g, struct vmm *vmm, struct error *err) {
    *g = (struct guardian){ .channel = -1, .ledger = vmm->ledger };
    int ends[2];
    int engine CLEANUP_CLOSE = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (engine < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot set up the guardian");
    }
    struct watch w = { .channel = ends[0], .engine = engine, .engine_pid = getpid(), .vmm = vmm };
    g->pid = fork();
    if (g->pid < 0) {
        close(ends[0]);
        close(ends[1]);
        g->pid = 0;
        return error_errno(err, ERROR_SYSTEM, "cannot fork the guardian");
    }
    if (g->pid == 0) {
        close(ends[1]);
        guard(&w);
    }
    close(ends[0]);
    g->channel = ends[1];
    return 0;
}

void guardian_note_file(struct guardian *g, const char *path) {
    if (g->pid > 0) {
        changed_file_made(g->ledger, path);
    }
}

int guardian_note_text(void *guardian, const char *path, const char *before, const char *ours, struct error *err) {
    const struct guardian *g = guardian;
    if (g->pid <= 0) {
        return error_set(err, ERROR_REFUSED, "there is no guardian that could write %s back", path);
    }
    return changed_file_note(g->ledger, path, before, ours, err);
}

pid_t guardian_leave(struct guardian *g) {
    pid_t pid = g->pid;
    if (pid > 0) {
        close(g->channel);
        *g = (struct guardian){ .channel = -1 };
    }
    return pid;
}

void guardian_dismiss(struct guardian *g) {
    if (g->pid <= 0) {
        return;
    }
    if (send(g->channel, "d", 1, MSG_NOSIGNAL) < 0) {
        log_warning("the guardian is gone already");
    }
    close(g->channel);
    int status;
    while (waitpid(g->pid, &status, 0) < 0 && errno == EINTR) {
    }
    changed_files_put_back(g->ledger, false); /* what could not be put back before */
    *g = (struct guardian){ .channel = -1 };
}
