/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/sample.h"

#define PIECE 64u /* a cache line */
#define STRIDE (64u * PIECE)
#define ENOUGH 1024u

/*
 * The chance that two sampled bytes are equal: sum(count^2) / n^2. Noise gives 1/256, and the sample itself adds 1/n.
 * Text gives about 15/256, machine code and pointers more, base64 4/256. A tenth above noise is far outside of what
 * noise does by chance and far below what any codec could use.
 */
bool sample_is_noise(const uint8_t *bytes, size_t size) {
    uint32_t count[256] = { 0 };
    size_t n = 0;
    uint64_t shift = 0; /* so that fields at the same place of every page do not make up the whole sample */
    for (size_t at = 0; at + STRIDE <= size; at += STRIDE) {
        const uint8_t *piece = bytes + at + shift;
        for (size_t i = 0; i < PIECE; i++) {
            count[piece[i]]++;
        }
        n += PIECE;
        shift = (shift + 5 * PIECE) % STRIDE;
    }
    if (n < ENOUGH) {
        return false;
    }
    uint64_t squares = 0;
    for (size_t i = 0; i < 256; i++) {
        squares += (uint64_t)count[i] * count[i];
    }
    return (double)squares < 1.1 * ((double)n * (double)n / 256 + (double)n);
}
