/* SPDX-License-Identifier: Apache-2.0 */
/* The QEMU behind struct vmm_ops. Works with stock QEMU from 4.0 on; what a version has is asked, not deduced. */
#ifndef GODWIT_VMM_QEMU_QEMU_H
#define GODWIT_VMM_QEMU_QEMU_H

#include "vmm/qemu/qmp.h"
#include "vmm/vmm.h"

/* Connects to a QMP socket and changes nothing in the guest. `pid` 0 takes the process that listens on the socket; give
 * it when another program made the socket and passed it on. Holds the guest against any other godwit until close() in
 * this process and in every process forked from it. Ended with vmm->ops->close(). */
struct vmm *vmm_qemu_open(const char *qmp_path, pid_t pid, struct error *err);

/* `godwit resolve`: for a source whose engine and guardian are both gone, so that nobody knows what they changed. What
 * looks as prepare() leaves it is taken to have had QEMU's default. A migration that was under way is cancelled: it
 * cannot have been handed over. One that was saved in full may have been: then the guest is let run here only with
 * `take_back`, which is the operator's word that it does not and will not run at the destination. */
int vmm_qemu_resolve(struct vmm *vmm, bool take_back, struct error *err);

#endif
