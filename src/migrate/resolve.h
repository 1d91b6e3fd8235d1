/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `godwit resolve`: what is left to do when engine and guardian of one side are gone, by the ledger that they left.
 *
 * The two sides are not alike. From the hand-over on it is the destination that decides: there --run lets the guest
 * run, unless its ledger says that the guest never runs there. At the source --take-back is the operator's word that
 * the destination's VMM has ended, and it is refused for a guest that is known to have run there: its disks have
 * changed since. So whoever follows the texts of one side, whatever somebody else does by those of the other, never
 * makes a second running copy.
 *
 * | side, ledger says    | no option                               | --take-back  | --run | | source: SOURCE       |
 * undone, the guest runs on               | the same     | refused                              | | NOBODY, DESTINATION
 * | settings back; says what to do          | runs it      | refused                              | | and it has run
 * there | settings back; says so                  | refused      | refused                              | |
 * destination: SOURCE  | settings back: it never runs here       | refused      | refused | | NOBODY               |
 * says what to ask the source             | refused      | runs it: the word that it was handed | | DESTINATION | says
 * so, or that it runs                | refused      | runs it                       (over) |
 */
#ifndef GODWIT_MIGRATE_RESOLVE_H
#define GODWIT_MIGRATE_RESOLVE_H

#include "base/error.h"
#include "vmm/vmm.h"

enum resolve_wish { RESOLVE_NOTHING, RESOLVE_TAKE_BACK, RESOLVE_RUN };

/* `vmm` is open and nothing else was done with it. Says what is on record, to people. 0: nobody has to decide anything
 * any more. -1: somebody has to, and `err` says what; or it failed. Without a ledger it does what can be told from the
 * VMM alone (vmm_qemu_resolve()). */
int resolve(struct vmm *vmm, enum resolve_wish wish, struct error *err);

#endif
