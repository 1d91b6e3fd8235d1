/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/internal.h"
#include "vmm/qemu/qemu.h"

#include <string.h>

/* Whether the guest may be running somewhere else by now. Only a migration that was saved in full can have been handed
 * over. */
static int check_ownership(struct qemu *q, bool take_back, struct error *err) {
    struct query_state state;
    struct query_migration m;
    if (query_state(q->qmp, &state, err) < 0 || query_migration(q->qmp, &m, err) < 0) {
        return -1;
    }
    if (strcmp(state.name, "inmigrate") == 0) {
        return error_set(err, ERROR_REFUSED, "this QEMU waits for a guest: it is no source");
    }
    if (m.status == VMM_COMPLETED && !state.running && !take_back) {
        return error_set(err, ERROR_REFUSED,
                         "the guest left here in full and may run at the destination: look there. If it does not and "
                         "never will, end that QEMU and take the guest back with --take-back");
    }
    return 0;
}

int vmm_qemu_resolve(struct vmm *vmm, bool take_back, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    if (check_ownership(q, take_back, err) < 0 || qemu_begin(vmm, VMM_SOURCE, err) < 0 ||
        qemu_settings_assume(q, err) < 0) {
        return -1;
    }
    /* A guest that ran when its migration began is let run again by QEMU itself when that is cancelled; one that was
     * paused stays so. */
    q->did.migration->guest_ran = take_back;
    qemu_record_descriptor(q);
    ledger_set(q->did.migration, true);
    qemu_saved_fd_mark(q);
    return qemu_undo(vmm, take_back, err);
}
