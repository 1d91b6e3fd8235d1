/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device state as it goes from one stunt to the other: a magic, then sections of (tag, length, XXH3-64, bytes).
 *
 *   while the guest runs   header (run state rules, list of RAM)   filler
 *   when it is stopped     filler   CPUs (load, plans, versions)   digest of each RAM   end
 *
 * As with QEMU the reader is done at the end section; it does not wait for the end of the stream.
 */
#ifndef STUNT_DEVICE_H
#define STUNT_DEVICE_H

#include "machine.h"

/* Both write to `fd` and count what they wrote in *written. Neither wants the machine lock, but the
 * capabilities must not change. The second only while the guest is stopped; `state` is what
 * it was before that. */
int device_save_setup(struct machine *machine, int fd, uint64_t *written, struct error *err);
int device_save_rest(struct machine *machine, enum runstate state, int fd, uint64_t *written, struct error *err);

/* Not under the machine lock. Reads all of it into the machine, whose guest has never run; *state is what the guest was
 * at the source. */
int device_load(struct machine *machine, int fd, enum runstate *state, struct error *err);

#endif
