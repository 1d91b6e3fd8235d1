/* SPDX-License-Identifier: Apache-2.0 */
/* The destination's half of the hand-over: load the device state, then run. */
#include "base/log.h"
#include "vmm/qemu/internal.h"

#include <string.h>

int qemu_load_begin(struct vmm *vmm, int fd, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    /* What was filled must still be what it was: the device state is loaded on top of it. */
    if (qemu_check_memory(q, err) < 0 || qemu_settings_apply(q, err) < 0) {
        return -1;
    }
    qemu_record_descriptor(q);
    if (qmp_getfd(q->qmp, fd, DEVICE_FD_NAME, err) < 0) {
        return -1;
    }
    q->said[0] = '\0';
    ledger_set(q->did.load, true);
    json_t *args = json_pack("{s:s}", "uri", "fd:" DEVICE_FD_NAME);
    if (qmp_execute(q->qmp, "migrate-incoming", args, NULL, QMP_TIMEOUT, err) == 0) {
        return 0;
    }
    if (qmp_refusal(q->qmp)[0] != '\0') {
        ledger_set(q->did.load, false); /* refused: nothing has begun */
    }
    return -1;
}

/* 1: loaded and paused; 0: not yet. Where an event has said "completed" QEMU is not asked `again` for that: 11.1 takes
 * some 5 ms for its first answer to query-migrate behind it, and the guest stands still. */
static int look(struct qemu *q, bool again, struct error *err) {
    struct query_migration m = { .status = VMM_COMPLETED };
    struct query_state state;
    if (!(again && strcmp(q->said, "completed") == 0) && query_migration(q->qmp, &m, err) < 0) {
        return -1;
    }
    if (query_state(q->qmp, &state, err) < 0) {
        return -1;
    }
    if (strcmp(q->said, "completed") == 0) {
        m.status = VMM_COMPLETED; /* said before the answer that names the state */
    }
    if (m.status == VMM_FAILED || m.status == VMM_CANCELLED) {
        return error_set(err, ERROR_VMM, "the destination QEMU failed to load the device state: %s",
                         m.error[0] ? m.error : "look at its stderr or log for the reason");
    }
    if (m.status != VMM_COMPLETED || strcmp(state.name, "inmigrate") == 0) {
        return 0;
    }
    if (state.running) {
        return error_set(err, ERROR_VMM, "the destination QEMU runs the guest by itself: somebody sent it `cont`");
    }
    return strcmp(state.name, "paused") == 0
               ? 1
               : error_set(err, ERROR_VMM, "the destination QEMU is \"%s\" after loading the device state", state.name);
}

int qemu_wait_loaded(struct vmm *vmm, int64_t timeout_ns, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    int64_t deadline = clock_now() + timeout_ns;
    struct qemu_pace pace = { .seen = q->changes };
    bool again = false;
    for (;;) {
        int done = look(q, again, err);
        again = true;
        if (done == 0 && clock_now() >= deadline) {
            return error_set(err, ERROR_VMM, "the destination QEMU did not load the device state in time");
        }
        if (done == 0 && qemu_wait_change(q, &pace, err) < 0) {
            done = -1;
        }
        if (done < 0 && qmp_gone(q->qmp)) {
            error_clear(err);
            return error_set(err, ERROR_VMM,
                             "the destination QEMU ended while it loaded the device state: look at its "
                             "stderr or log for the reason");
        }
        if (done > 0) {
            log_debug("the device state is loaded, and known to be %.1f ms after QEMU said so",
                      q->said_at != 0 ? (double)(clock_now() - q->said_at) / 1e6 : 0.0);
        }
        if (done != 0) {
            return done < 0 ? -1 : 0;
        }
    }
}

static void announce(struct qemu *q) {
    struct error err = { 0 };
    json_t *args = json_pack("{s:i, s:i, s:i, s:i}", "initial", 50, "max", 550, "rounds", 5, "step", 100);
    if (qmp_execute(q->qmp, "announce-self", args, NULL, QMP_TIMEOUT, &err) < 0) {
        log_warning("the guest's network addresses are not announced: %s", err.desc);
    }
}

int qemu_run(struct vmm *vmm, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    SHIELD(q);
    struct query_state state;
    struct error local = { 0 };
    q->resumed = false;
    if (qemu_cont(q, err) < 0) {
        return -1;
    }
    if (q->resumed) { /* an event has said so: the source waits for our word, and need not wait longer */
        return 0;
    }
    if (query_state(q->qmp, &state, &local) < 0) {
        /* `cont` has worked: who took this for a failure would have the guest run at the source too */
        log_warning("the guest was let run at the destination, but QEMU does not say how it is: %s", local.desc);
    } else if (!state.running) {
        return error_set(err, ERROR_VMM, "the guest does not run at the destination: it is \"%s\"", state.name);
    }
    return 0;
}

void qemu_settle(struct vmm *vmm) {
    struct qemu *q = qemu_of(vmm);
    SHIELD(q);
    struct error err = { 0 };
    if (ledger_has_run(vmm->ledger)) {
        announce(q);
    }
    /* or a later migration by QEMU itself would leave the guest's RAM out */
    if (qemu_settings_restore(q, &err) < 0) {
        log_warning("the destination QEMU keeps godwit's migration capabilities: %s", err.desc);
    }
    ledger_set(q->did.load, false);
    ledger_set(q->did.descriptor, false);
}

int qemu_discard(struct vmm *vmm, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    SHIELD(q);
    if (q->side != VMM_DESTINATION || !qemu_has_done(q)) {
        return 0;
    }
    if (is_done(q->did.load)) {
        /* It may be let run by hand one day. While it loads it refuses, and then it is of no use anyway. */
        struct error ignored = { 0 };
        if (!qmp_gone(q->qmp) && qemu_settings_restore(q, &ignored) < 0) {
            log_debug("discard: %s", ignored.desc);
        }
        return 1;
    }
    if (qmp_resync(q->qmp, QMP_TIMEOUT, err) < 0) {
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
