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

/* The connection, for commands about disks and vCPUs. Owned by `vmm`; the event callback is taken. */
struct qmp *vmm_qemu_qmp(struct vmm *vmm);

/* For `resolve`, when the process that prepared this source and its guardian are both gone and nobody knows what they
 * changed: assumes that the guest ran and that everything which looks as prepare() leaves it had QEMU's default. Then
 * ops->undo() works. */
int vmm_qemu_assume_prepared(struct vmm *vmm, struct error *err);

#endif
