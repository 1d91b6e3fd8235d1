/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/injection.h"

#include "base/log.h"

int injection_note(void *ledger, const struct remote_change *change, struct error *err) {
    struct ledger *l = ledger;
    struct remote_change *c = ledger_next(l, LEDGER_INJECTION, sizeof(*c), NULL);
    c = c != NULL ? c : ledger_add(l, LEDGER_INJECTION, sizeof(*c), err);
    if (c == NULL) {
        return -1;
    }
    if (change == NULL) {
        ledger_set(c, false);
        ledger_stand(l, LEDGER_ATTACHED, false);
        return 0;
    }
    *c = *change;
    ledger_set(c, true);
    ledger_stand(l, LEDGER_ATTACHED, true);
    return 0;
}

void injection_put_back(struct ledger *l, pid_t pid) {
    struct remote_change *c = ledger_next(l, LEDGER_INJECTION, sizeof(*c), NULL);
    struct error err = { 0 };
    if (c == NULL || !ledger_is_set(c)) {
        return;
    }
    if (c->pid != pid) {
        log_warning("the ledger names a thread that is none of the VMM's: it is left alone");
    } else if (remote_put_back(c, &err) < 0) {
        log_error("the signal mask of the VMM's main thread could not be put back: %s", err.desc);
        return;
    }
    ledger_set(c, false);
}
