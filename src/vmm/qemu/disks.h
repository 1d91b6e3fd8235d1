/* SPDX-License-Identifier: Apache-2.0 */
/* What is behind the guest's disks. godwit does not move disks: both ends must open the same images. */
#ifndef GODWIT_VMM_QEMU_DISKS_H
#define GODWIT_VMM_QEMU_DISKS_H

#include "vmm/findings.h"
#include "vmm/qemu/qmp.h"

/* {disk: {"size": bytes, "files": [the image, what it stands on, …], "formats": […]}}, {} for a drive without medium.
 * A disk is known by the id of its device, else by the name of its drive. NULL with err; a new reference. */
json_t *disks_describe(struct qmp *q, struct error *err);

/* Refuses images that surely differ: by size, format, number of images in the chain, or the name of a file. Remarks
 * those of which names say nothing. `there` NULL: not to be compared. */
void disks_match(const json_t *here, const json_t *there, struct findings *found);

#endif
