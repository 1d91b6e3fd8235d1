/* SPDX-License-Identifier: Apache-2.0 */
/* Bitmaps of 64-bit words; bit i is word i/64, bit i%64. */
#ifndef GODWIT_BASE_BITS_H
#define GODWIT_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t bits_words(uint64_t bits) {
    return (size_t)((bits + 63) / 64);
}

static inline bool bits_test(const uint64_t *map, uint64_t i) {
    return (map[i / 64] >> (i % 64)) & 1;
}

static inline void bits_set(uint64_t *map, uint64_t i) {
    map[i / 64] |= UINT64_C(1) << (i % 64);
}

static inline void bits_clear(uint64_t *map, uint64_t i) {
    map[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

/* Sets or clears bits [from, to). */
void bits_set_range(uint64_t *map, uint64_t from, uint64_t to);
void bits_clear_range(uint64_t *map, uint64_t from, uint64_t to);
uint64_t bits_count(const uint64_t *map, uint64_t bits);
/* The first set (clear) bit in [from, to), or `to`. */
uint64_t bits_next_set(const uint64_t *map, uint64_t from, uint64_t to);
uint64_t bits_next_clear(const uint64_t *map, uint64_t from, uint64_t to);

#endif
