/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changed from one version of a page to the next: the part of QEMU's XBZRLE, in a format of our own.
 *
 *   delta  = { length ≥ 1, skip, `length` new bytes } … [ 0 ]
 *   number = 7 bits a byte, the low ones first, bit 7 set on all bytes but the last; in as few bytes as it takes
 *
 * Each run skips unchanged bytes and then replaces some. A delta ends with the run that reaches the end of the page, or
 * else with a 0 in place of a length. So deltas need no frame: one may follow another. Equal pages are the one byte 0.
 */
#ifndef GODWIT_CODEC_DELTA_H
#define GODWIT_CODEC_DELTA_H

#include <stddef.h>
#include <stdint.h>

#define DELTA_PAGE_MAX 65536u

/* Writes what turns `old` into `now`. `size`, of both, is a multiple of 64 up to DELTA_PAGE_MAX. Returns the bytes
 * written, at least 1, or 0 when they are more than `capacity`; then `out` has been written to all the same. */
size_t delta_encode(const uint8_t *old, const uint8_t *now, size_t size, uint8_t *out, size_t capacity);

/* Applies the delta at *in, which ends before or at `end`, to `page` in place, and moves *in behind it. -1 when it is
 * malformed: *in stays, and `page` may have been changed in part. Never touches a byte outside the page. */
int delta_decode(const uint8_t **in, const uint8_t *end, uint8_t *page, size_t size);

#endif
