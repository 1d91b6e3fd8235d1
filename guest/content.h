/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a page of the guest's memory or a block of its disk must hold: a pure function of seed, place and version, so
 * that whoever checks needs nothing but the version that was written last.
 *
 *   0      24                                          4096
 *   | stamp | body: text, pointers, noise or zeros       |
 *                      with one 64-byte line that belongs to the version
 *
 * A write with a new body changes nearly everything, a write with the old body and a new version changes the stamp and
 * two lines. A zero page is wholly zero at even bodies and has nothing but its stamp at odd ones.
 */
#ifndef GUEST_CONTENT_H
#define GUEST_CONTENT_H

#include <stddef.h>
#include <stdint.h>

#define CONTENT_SIZE 4096

enum content_kind { CONTENT_TEXT, CONTENT_POINTER, CONTENT_RANDOM, CONTENT_ZERO };

struct content {
    uint64_t seed;
    uint64_t place; /* page or block number */
    uint32_t body, version;
    enum content_kind kind;
};

/* Makes the text that pages are cut from. Call once, before threads start. Returns -1 when there is no memory. */
int content_setup(uint64_t seed);

/* The kind that `place` has for good, in the given percentages (see settings.h). */
enum content_kind content_kind_at(uint64_t seed, uint64_t place, const uint64_t mix[4]);

/* Writes CONTENT_SIZE bytes. */
void content_fill(void *out, const struct content *content);

/* The offset of the first byte that is not as it must be, or CONTENT_SIZE. */
size_t content_check(const void *page, const struct content *content);

/* One step of splitmix64: a good hash, and a generator when fed with its own counter. */
uint64_t content_hash(uint64_t x);

#endif
