/* SPDX-License-Identifier: Apache-2.0 */
/* Frames that a test writes by hand to the receiver of a rig, good ones and others. */
#ifndef GODWIT_TESTS_UNIT_PARCEL_H
#define GODWIT_TESTS_UNIT_PARCEL_H

#include "rig.h"
#include "wire/frame.h"

#define PARCEL_PAGES 8

/* A frame with one run. A test may spoil any part of it before it is posted. */
struct parcel {
    struct frame f;
    struct frame_run run;
    uint8_t payload[PARCEL_PAGES * RAM_PAGE_SIZE];
};

/* The digest of the frame's pages, whose bytes are given. */
void parcel_digest(struct frame *f, const uint8_t *bytes);

/* Frames of block 0, as they would leave the sender: `count` pages, all bytes `value`; the same through LZ4; pages that
 * are zero; the changes of pages from `before` to `now` (both `count` pages). */
struct parcel parcel_pages(uint32_t pass, uint64_t first, uint32_t count, int value);
struct parcel parcel_lz4(uint32_t pass, uint64_t first, uint32_t count, int value);
struct parcel parcel_zero(uint32_t pass, uint64_t first, uint32_t count);
struct parcel parcel_changes(uint32_t pass, uint64_t first, uint32_t count, const uint8_t *before, const uint8_t *now);

/* To the receiver, on a channel; the whole, or header and runs alone, or the payload alone. */
void parcel_post(struct rig *r, unsigned channel, const struct parcel *p);
void parcel_post_head(struct rig *r, unsigned channel, const struct parcel *p);
void parcel_post_payload(struct rig *r, unsigned channel, const struct parcel *p);
void parcel_post_end(struct rig *r, unsigned channel, uint32_t pass, uint32_t count);

#endif
