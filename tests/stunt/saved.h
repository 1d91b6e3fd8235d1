/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device state in the form of QEMU's own stream, big-endian: as xen-save-devices-state saves it, and as
 * migrate-incoming wants it, with what the saved one lacks:
 *
 *   QEVM, version   [configuration: the machine's type]   one section: all that device.h has   end   [description]
 *
 * What is in brackets the loader demands, and the saved one does not have. The stunt has no RAM of its own, so there is
 * no section for that; a stream that has one is refused.
 */
#ifndef STUNT_SAVED_H
#define STUNT_SAVED_H

#include "machine.h"

#define SAVED_MAGIC "QEVM\0\0\0\3"
#define SAVED_MAGIC_SIZE 8

/* All of it, to `fd`. Under the machine lock; the guest is stopped. */
int saved_write(struct machine *machine, int fd, struct error *err);
/* What stands between the magic and the device state, and behind that. Not under the lock. */
int saved_read_head(const struct machine *machine, int fd, struct error *err);
int saved_read_tail(int fd, struct error *err);

#endif
