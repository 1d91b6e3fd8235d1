/* SPDX-License-Identifier: Apache-2.0 */
/* The first thing that an engine does with a guest. */
#ifndef GODWIT_MIGRATE_RECOVER_H
#define GODWIT_MIGRATE_RECOVER_H

#include "base/error.h"
#include "vmm/vmm.h"

/* Undoes what the ledger says of an engine and a guardian that both died, as the guardian would have, says so, and
 * begins the ledger. Refuses a guest that may run elsewhere or that nobody has decided about, as long as it does not
 * run here: the ledger then stays as it was. */
int recover_and_begin(struct vmm *vmm, enum vmm_side side, struct error *err);

#endif
