/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a thread leaves in a page that it writes: a number that only (seed, guest page, version) can make. Whoever knows
 * the version can tell a page that was lost, is old, or was torn.
 *
 * A write of 8 bytes leaves one stamp, somewhere in the page but always at the same place; a write of the whole page
 * leaves one in each 512 bytes, on top of new content.
 */
#ifndef STUNT_STAMP_H
#define STUNT_STAMP_H

#include "load.h"

/* Versions are 1..255 and then 1 again: one byte a page must do, for the device state carries them all. */
static inline uint8_t stamp_next_version(uint8_t version) {
    return version == UINT8_MAX ? 1 : (uint8_t)(version + 1);
}

void stamp_write(uint8_t *bytes, const struct load *load, uint64_t page, uint8_t version);
bool stamp_holds(const uint8_t *bytes, const struct load *load, uint64_t page, uint8_t version);

#endif
