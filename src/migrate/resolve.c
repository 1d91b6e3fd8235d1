/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/resolve.h"

#include "base/clock.h"
#include "base/log.h"
#include "ledger/ledger.h"
#include "migrate/changed_files.h"
#include "migrate/injection.h"
#include "vmm/qemu/qemu.h"

#include <time.h>

static void describe(const struct ledger *l) {
    static const char *const source[] = {
        [LEDGER_SOURCE] = "an engine died while it worked on this guest, which is the source's",
        [LEDGER_NOBODY] = "the guest was handed over, and the destination has not said that it has it",
        [LEDGER_DESTINATION] = "the guest was handed over, and the destination has it"
    };
    static const char *const destination[] = { [LEDGER_SOURCE] = "the guest never runs here: it is the source's",
                                               [LEDGER_NOBODY] =
                                                   "the guest is complete here, and the source has not asked to run it",
                                               [LEDGER_DESTINATION] =
                                                   "the source has handed the guest over to this side" };
    char when[64] = "";
    time_t at = (time_t)(ledger_moved_at(l) / CLOCK_S);
    struct tm tm;
    if (at != 0 && localtime_r(&at, &tm) != NULL) {
        strftime(when, sizeof(when), ", since %F %T", &tm);
    }
    bool is_source = ledger_side(l) == LEDGER_AT_SOURCE;
    log_info("on record (%s): %s%s%s", ledger_path(l), (is_source ? source : destination)[ledger_owner(l)], when,
             ledger_has_run(l) ? "; it has run there" : "");
}

/* Needs `vmm` only for what it is: nothing is concluded from the record that the VMM can tell itself. */
static int undo_source(struct vmm *vmm, struct error *err) {
    injection_put_back(vmm->ledger, vmm->pid);
    changed_files_put_back(vmm->ledger, true);
    return vmm->ops->undo(vmm, true, err); /* runs the guest only if the ledger says that the source may */
}

static int resolve_source(struct vmm *vmm, enum resolve_wish wish, struct error *err) {
    struct ledger *l = vmm->ledger;
    bool running = false;
    if (wish == RESOLVE_RUN) {
        return error_set(err, ERROR_REFUSED, "this is the source of a migration: --run is for its destination");
    }
    if (wish == RESOLVE_TAKE_BACK && ledger_owner(l) != LEDGER_SOURCE) {
        if (ledger_has_run(l)) {
            return error_set(
                err, ERROR_REFUSED,
                "the guest has run at its destination: its disks have changed since, and to run this older "
                "copy would spoil them. When it does not run there any more, start it anew");
        }
        if (ledger_move(l, LEDGER_SOURCE, err) < 0) {
            return -1;
        }
    }
    if (undo_source(vmm, err) < 0 || vmm->ops->guest_running(vmm, &running, err) < 0) {
        return -1;
    }
    if (ledger_owner(l) == LEDGER_SOURCE || running) {
        return 0;
    }
    if (ledger_has_run(l)) {
        return error_set(err, ERROR_REFUSED,
                         "the guest was handed over and has run at its destination: look there. This "
                         "VMM can be ended");
    }
    return error_set(
        err, ERROR_REFUSED,
        "the guest was handed over and may run at the destination, which decides about it: 'godwit resolve' "
        "there says whether it runs, and with --run lets it run. Only when that VMM has ended, and never ran "
        "the guest, --take-back here takes it back");
}

static int run_here(struct vmm *vmm, struct error *err) {
    struct ledger *l = vmm->ledger;
    if (ledger_owner(l) == LEDGER_SOURCE) {
        return error_set(err, ERROR_REFUSED,
                         "this guest never runs here: the source has it, or was told that it may take "
                         "it back. End this VMM");
    }
    if (ledger_owner(l) == LEDGER_NOBODY && ledger_move(l, LEDGER_DESTINATION, err) < 0) {
        return -1;
    }
    if (vmm->ops->run(vmm, err) < 0) {
        return -1;
    }
    ledger_note_ran(l);
    vmm->ops->settle(vmm);
    return 0;
}

static int resolve_destination(struct vmm *vmm, enum resolve_wish wish, struct error *err) {
    struct ledger *l = vmm->ledger;
    bool running = false;
    if (wish == RESOLVE_TAKE_BACK) {
        return error_set(err, ERROR_REFUSED, "this is the destination of a migration: --take-back is for its source");
    }
    if (vmm->ops->guest_running(vmm, &running, err) < 0) {
        return -1;
    }
    changed_files_put_back(l, true);
    if (running) {
        if (ledger_owner(l) == LEDGER_DESTINATION) {
            ledger_note_ran(l);
        }
        vmm->ops->settle(vmm);
        return 0;
    }
    if (wish == RESOLVE_RUN) {
        return run_here(vmm, err);
    }
    struct error ignored = { 0 };
    vmm->ops->discard(vmm, &ignored); /* settings; what cannot be used again stays as it is */
    if (ledger_owner(l) == LEDGER_SOURCE) {
        return 0;
    }
    return error_set(
        err, ERROR_REFUSED,
        ledger_owner(l) == LEDGER_NOBODY
            ? "the guest is complete and paused here, and it is not known whether the source has handed it "
              "over: 'godwit resolve' there says so. If it was, --run here lets it run; if it runs there, end "
              "this VMM"
            : "the source has handed the guest over and does not run it; it is paused here: --run lets it run");
}

int resolve(struct vmm *vmm, enum resolve_wish wish, struct error *err) {
    if (!ledger_was_left(vmm->ledger)) {
        if (wish == RESOLVE_RUN) {
            return error_set(
                err, ERROR_REFUSED,
                "there is no record of a migration to this VMM, so nobody knows whether its guest may run");
        }
        return vmm_qemu_resolve(vmm, wish == RESOLVE_TAKE_BACK, err);
    }
    describe(vmm->ledger);
    return ledger_side(vmm->ledger) == LEDGER_AT_SOURCE ? resolve_source(vmm, wish, err)
                                                        : resolve_destination(vmm, wish, err);
}
