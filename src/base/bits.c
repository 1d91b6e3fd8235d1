/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bits.h"

/* Bits from..63 of a word, and bits 0..to-1 of one (to in 1..64). */
static uint64_t mask_from(uint64_t from) {
    return ~UINT64_C(0) << (from % 64);
}

static uint64_t mask_to(uint64_t to) {
    return ~UINT64_C(0) >> ((64 - to % 64) % 64);
}

void bits_set_range(uint64_t *map, uint64_t from, uint64_t to) {
    if (from >= to) {
        return;
    }
    size_t first = from / 64, last = (to - 1) / 64;
    if (first == last) {
        map[first] |= mask_from(from) & mask_to(to);
        return;
    }
    map[first] |= mask_from(from);
    for (size_t i = first + 1; i < last; i++) {
        map[i] = ~UINT64_C(0);
    }
    map[last] |= mask_to(to);
}

void bits_clear_range(uint64_t *map, uint64_t from, uint64_t to) {
    if (from >= to) {
        return;
    }
    size_t first = from / 64, last = (to - 1) / 64;
    if (first == last) {
        map[first] &= ~(mask_from(from) & mask_to(to));
        return;
    }
    map[first] &= ~mask_from(from);
    for (size_t i = first + 1; i < last; i++) {
        map[i] = 0;
    }
    map[last] &= ~mask_to(to);
}

uint64_t bits_count(const uint64_t *map, uint64_t bits) {
    uint64_t n = 0;
    for (size_t i = 0; i < bits / 64; i++) {
        n += (uint64_t)__builtin_popcountll(map[i]);
    }
    if (bits % 64 != 0) {
        n += (uint64_t)__builtin_popcountll(map[bits / 64] & mask_to(bits));
    }
    return n;
}

static uint64_t next_bit(const uint64_t *map, uint64_t from, uint64_t to, uint64_t flip) {
    while (from < to) {
        uint64_t word = (map[from / 64] ^ flip) & mask_from(from);
        if (word != 0) {
            uint64_t found = from / 64 * 64 + (uint64_t)__builtin_ctzll(word);
            return found < to ? found : to;
        }
        from = (from / 64 + 1) * 64;
    }
    return to;
}

uint64_t bits_next_set(const uint64_t *map, uint64_t from, uint64_t to) {
    return next_bit(map, from, to, 0);
}

uint64_t bits_next_clear(const uint64_t *map, uint64_t from, uint64_t to) {
    return next_bit(map, from, to, ~UINT64_C(0));
}
