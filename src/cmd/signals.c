/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/signals.h"

#include <signal.h>
#include <sys/signalfd.h>

static sigset_t ends(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    return set;
}

int signals_catch(struct error *err) {
    sigset_t set = ends();
    signal(SIGPIPE, SIG_IGN);
    /* A file that has grown to RLIMIT_FSIZE: the write fails and says so, and the migration ends in a sentence. */
    signal(SIGXFSZ, SIG_IGN);
    /* An engine that is stopped by its terminal would leave the guest stopped too, and with the sync tracker whoever
     * writes guest memory. */
    signal(SIGTSTP, SIG_IGN);
    signal(SIGTTIN, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) {
        return error_errno(err, ERROR_SYSTEM, "sigprocmask");
    }
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd >= 0 ? fd : error_errno(err, ERROR_SYSTEM, "signalfd");
}

void signals_release(void) {
    sigset_t set = ends();
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}
