/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Back to what the source was before prepare(). Also run by the guardian after the engine was killed at any
 * instruction, so nothing is concluded from what we meant to do: QEMU is asked where it is now, and the ledger only
 * says what may have been touched.
 *
 *   1. both ends of the monitor to a message boundary
 *   2. a migration under way: migrate_cancel, wait for its end
 *   3. the guest ran before and does not run now: cont, which takes back the disks that it has given up
 *   4. descriptors, parameters, capabilities (QEMU takes them only when no migration is active)
 */
#include "base/log.h"
#include "vmm/qemu/internal.h"

#include <string.h>

#define SETTLE_TIMEOUT (30 * CLOCK_S)
#define CANCEL_AGAIN (1 * CLOCK_S)
#define UNDO_TRIES 3
#define UNDO_PATIENCE (5 * CLOCK_S)
#define CONT_TRIES 10
#define CONT_PAUSE (200 * CLOCK_MS)

/* Sleeps, but not beyond the deadline; takes what QEMU says meanwhile. */
static int pause_for(struct qemu *q, int64_t ns, struct error *err) {
    int64_t end = clock_now() + ns, left;
    end = end < qmp_deadline(q->qmp) ? end : qmp_deadline(q->qmp);
    while ((left = end - clock_now()) > 0) {
        if (qmp_wait_event(q->qmp, left, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int qemu_cont(struct qemu *q, struct error *err) {
    for (int i = 1;; i++) {
        struct error last = { 0 };
        if (qmp_execute(q->qmp, "cont", NULL, NULL, QMP_TIMEOUT, &last) == 0) {
            return 0;
        }
        if (i == CONT_TRIES || qmp_refusal(q->qmp)[0] == '\0') {
            return error_set(err, last.class, "%s", last.desc);
        }
        log_debug("%s; trying again", last.desc);
        if (pause_for(q, CONT_PAUSE, err) < 0) {
            return -1;
        }
    }
}

/* Cancelling a migration makes QEMU run the guest again by itself, if it ran. When that must not be, all we can do is
 * to wait for the end of one that is under way. */
static int wait_without_cancel(struct qemu *q, struct error *err) {
    int64_t deadline = clock_now() + SETTLE_TIMEOUT;
    struct qemu_pace pace = { .seen = q->changes };
    for (;;) {
        struct query_migration m;
        if (query_migration(q->qmp, &m, err) < 0) {
            return -1;
        }
        if (!query_migration_live(&m)) {
            return 0;
        }
        if (m.status != VMM_DEVICE || clock_now() >= deadline) {
            return error_set(
                err, ERROR_VMM,
                "QEMU's migration is still in \"%s\"; it is left there, for cancelling it would run the guest", m.name);
        }
        if (qemu_wait_change(q, &pace, err) < 0) {
            return -1;
        }
    }
}

static int send_cancel(struct qemu *q, struct error *err) {
    struct error local = { 0 };
    if (qmp_execute(q->qmp, "migrate_cancel", NULL, NULL, QMP_TIMEOUT, &local) < 0 && qmp_refusal(q->qmp)[0] == '\0') {
        return error_set(err, local.class, "%s", local.desc);
    }
    return 0; /* a refusal is shown by the state that follows */
}

static int cancel_migration(struct qemu *q, struct error *err) {
    int64_t deadline = clock_now() + SETTLE_TIMEOUT, again = 0;
    struct qemu_pace pace = { .seen = q->changes };
    for (;;) {
        struct query_migration m;
        if (query_migration(q->qmp, &m, err) < 0) {
            return -1;
        }
        if (!query_migration_live(&m)) {
            return 0;
        }
        int64_t now = clock_now();
        if (now >= deadline) {
            return error_set(err, ERROR_VMM, "QEMU's migration does not end: it is still in \"%s\"", m.name);
        }
        if (now >= again) {
            if (send_cancel(q, err) < 0) {
                return -1;
            }
            again = now + CANCEL_AGAIN;
        }
        if (qemu_wait_change(q, &pace, err) < 0) {
            return -1;
        }
    }
}

/* States in which a migration leaves a guest that ran, and from which `cont` brings it back. */
static bool stopped_by_migration(const char *state) {
    return strcmp(state, "postmigrate") == 0 || strcmp(state, "paused") == 0 || strcmp(state, "finish-migrate") == 0;
}

/* QEMU runs the guest again itself a moment after a cancelled migration has ended: until then it says finish-migrate.
 */
static int run_again(struct qemu *q, struct error *err) {
    int64_t deadline = clock_now() + SETTLE_TIMEOUT;
    struct qemu_pace pace = { .seen = q->changes };
    for (;;) {
        struct query_state state;
        if (query_state(q->qmp, &state, err) < 0) {
            return -1;
        }
        if (state.running) {
            return 0;
        }
        if (!stopped_by_migration(state.name)) {
            log_warning("the guest is in state \"%s\", which is not our doing: it is left there", state.name);
            return 0;
        }
        if (strcmp(state.name, "finish-migrate") != 0) {
            return qemu_cont(q, err);
        }
        if (clock_now() >= deadline) {
            return error_set(err, ERROR_VMM, "QEMU does not leave the state \"finish-migrate\"");
        }
        if (qemu_wait_change(q, &pace, err) < 0) {
            return -1;
        }
    }
}

static int undo_migration(struct qemu *q, bool resume, struct error *err) {
    bool ran = q->did.migration->guest_ran != 0;
    if (ran && !resume) {
        return wait_without_cancel(q, err); /* the entry stays: a later undo may still resume */
    }
    if (cancel_migration(q, err) < 0 || (ran && run_again(q, err) < 0)) {
        return -1;
    }
    ledger_set(q->did.migration, false);
    ledger_stand(q->vmm.ledger, LEDGER_STOPPED, false);
    return 0;
}

/* Without a migration there is nothing to wait for: the guest is let run, or stays as it is. */
static int undo_save(struct qemu *q, bool resume, struct error *err) {
    if (q->did.save->guest_ran && !resume) {
        return 0; /* the entry stays: a later undo may still resume */
    }
    if (q->did.save->guest_ran && run_again(q, err) < 0) {
        return -1;
    }
    ledger_set(q->did.save, false);
    ledger_stand(q->vmm.ledger, LEDGER_STOPPED, false);
    return 0;
}

static int undo_once(struct qemu *q, bool resume, struct error *err) {
    if (qmp_resync(q->qmp, QMP_TIMEOUT, err) < 0) {
        return -1;
    }
    if (is_done(q->did.migration) && undo_migration(q, resume, err) < 0) {
        return -1;
    }
    if (is_done(q->did.save) && undo_save(q, resume, err) < 0) {
        return -1;
    }
    if (is_done(q->did.fdset) && qemu_saved_fd_tidy(q, err) < 0) {
        return -1;
    }
    if (is_done(q->did.descriptor)) {
        if (qemu_close_fd(q, err) < 0) {
            return -1;
        }
        ledger_set(q->did.descriptor, false);
    }
    return qemu_settings_restore(q, err);
}

/* A refusal may pass, and a guest that stays stopped is worse than another try. A VMM that is gone or takes its time
 * has had its chance. */
int qemu_undo(struct vmm *vmm, bool resume, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    if (q->side != VMM_SOURCE) {
        return 0;
    }
    SHIELD(q);
    resume = resume && ledger_owner(vmm->ledger) == LEDGER_SOURCE; /* else nobody may run it here, whoever asks */
    int64_t late = clock_now() + UNDO_PATIENCE;
    for (int i = 1; qemu_has_done(q); i++) {
        struct error last = { 0 };
        if (undo_once(q, resume, &last) == 0) {
            return 0;
        }
        if (i == UNDO_TRIES || qmp_gone(q->qmp) || clock_now() > late) {
            return error_set(err, last.class, "%s", last.desc);
        }
        log_debug("%s; trying again", last.desc);
        if (pause_for(q, CONT_PAUSE, err) < 0) {
            return -1;
        }
    }
    return 0;
}
