/* SPDX-License-Identifier: Apache-2.0 */
/* What attaching changes in the VMM's process, in the ledger: a killed engine leaves a thread whose signals are
 * blocked, and maybe a descriptor. */
#ifndef GODWIT_MIGRATE_INJECTION_H
#define GODWIT_MIGRATE_INJECTION_H

#include "base/error.h"
#include "ledger/ledger.h"
#include "remote/remote.h"

/* struct remote_witness's; `ledger` is a struct ledger. */
int injection_note(void *ledger, const struct remote_change *change, struct error *err);
/* Puts back what is noted; `pid` is the VMM's. What can't be is said, and stays noted. */
void injection_put_back(struct ledger *l, pid_t pid);

#endif
