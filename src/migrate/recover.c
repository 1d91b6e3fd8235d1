/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/recover.h"

#include "base/log.h"
#include "ledger/ledger.h"
#include "migrate/changed_files.h"
#include "migrate/injection.h"

/* What was left at a source that may still run its guest, or at any side whose guest runs here by now, whoever did it.
 */
static int undo_left(struct vmm *vmm, struct error *err) {
    bool source = ledger_side(vmm->ledger) == LEDGER_AT_SOURCE;
    if (!ledger_has_work(vmm->ledger)) {
        return 0;
    }
    injection_put_back(vmm->ledger, vmm->pid);
    changed_files_put_back(vmm->ledger, true);
    if (source ? vmm->ops->undo(vmm, true, err) < 0 : vmm->ops->discard(vmm, err) < 0) {
        return error_prefix(err, "an earlier godwit died here, and what it had changed could not be put back: ");
    }
    log_warning("an earlier godwit and its guardian died here: what they had changed is put back");
    return 0;
}

/* The guest does not run here, and the ledger says that somebody else may run it, or nobody. */
static int refuse_left(const struct ledger *l, struct error *err) {
    bool source = ledger_side(l) == LEDGER_AT_SOURCE;
    if (ledger_has_run(l)) {
        return error_set(err, ERROR_REFUSED, "%s",
                         source ? "this guest was handed over and has run at its destination: it is not here any more"
                                : "this guest arrived here, has run and does not run now: let it run, or end its VMM");
    }
    return error_set(err, ERROR_REFUSED,
                     source ? "an earlier migration has handed this guest over, and it is not known whether it runs at "
                              "its destination: 'godwit resolve' says what to do"
                            : "an earlier migration has brought this guest here, and nobody has let it run: 'godwit "
                              "resolve' says what to do");
}

static int look_at_left(struct vmm *vmm, enum vmm_side side, struct error *err) {
    struct ledger *l = vmm->ledger;
    bool running = false;
    if (ledger_owner(l) == LEDGER_SOURCE && ledger_side(l) == LEDGER_AT_SOURCE) {
        return undo_left(vmm, err);
    }
    if (vmm->ops->guest_running(vmm, &running, err) < 0) {
        return -1;
    }
    if (running) {
        if (ledger_side(l) == LEDGER_AT_SOURCE || !ledger_has_run(l)) {
            log_warning("the guest was %s, and runs here now: somebody has decided so",
                        ledger_side(l) == LEDGER_AT_SOURCE ? "handed over" : "paused when it had arrived");
        }
        return undo_left(vmm, err);
    }
    bool arrived_paused = ledger_side(l) == LEDGER_AT_DESTINATION && ledger_owner(l) == LEDGER_DESTINATION;
    if (side == VMM_DESTINATION || arrived_paused) {
        return 0; /* of what state the VMM is, its inspection says better; a guest that arrived may leave again */
    }
    return refuse_left(l, err);
}

int recover_and_begin(struct vmm *vmm, enum vmm_side side, struct error *err) {
    if (ledger_was_left(vmm->ledger) && look_at_left(vmm, side, err) < 0) {
        return -1;
    }
    return vmm->ops->begin(vmm, side, err);
}
