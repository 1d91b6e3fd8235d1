/* SPDX-License-Identifier: Apache-2.0 */
/* The entries of the ledger that are about QEMU. All are added at the beginning: what is done later is only set, which
 * can't fail. */
#include "vmm/qemu/internal.h"

#include <string.h>

#define EACH(what)                                                                                                     \
    what(LEDGER_CAPABILITIES, capabilities) what(LEDGER_PARAMETERS, parameters) what(LEDGER_DESCRIPTOR, descriptor)    \
        what(LEDGER_MIGRATION, migration) what(LEDGER_SAVE, save) what(LEDGER_FDSET, fdset) what(LEDGER_LOAD, load)

void qemu_find_done(struct qemu *q) {
#define FIND(kind, name) q->did.name = ledger_next(q->vmm.ledger, kind, sizeof(*q->did.name), NULL);
    EACH(FIND)
}

int qemu_begin(struct vmm *vmm, enum vmm_side side, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    q->side = side;
    ledger_begin(vmm->ledger, side == VMM_SOURCE ? LEDGER_AT_SOURCE : LEDGER_AT_DESTINATION);
#define ADD(kind, name)                                                                                                \
    q->did.name = ledger_add(vmm->ledger, kind, sizeof(*q->did.name), err);                                            \
    if (q->did.name == NULL) {                                                                                         \
        return -1;                                                                                                     \
    }
    EACH(ADD)
    return 0;
}

bool qemu_has_done(const struct qemu *q) {
#define IS(kind, name) is_done(q->did.name) ||
    return EACH(IS) false;
}

void qemu_record_descriptor(struct qemu *q) {
    _Static_assert(sizeof(DEVICE_FD_NAME) <= sizeof(q->did.descriptor->name), "it is not cut");
    memcpy(q->did.descriptor->name, DEVICE_FD_NAME, sizeof(DEVICE_FD_NAME));
    ledger_set(q->did.descriptor, true);
}
