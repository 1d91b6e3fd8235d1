/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/kind.h"

#include <string.h>

#define LOOKS 8u
#define LOOK 8u   /* bytes */
#define STEP 504u /* from look to look: 504 = 512 - 8, so that each is at another place of a line of 64 bytes */
#define HEAD 64u  /* many pages begin with a header of their own */
#define SAMPLE (LOOKS * LOOK)

/* Of 64 bytes. Noise has 57 different ones, and 50 or more in 99.8 of 100 pages; 25 printable ones, half a one
 * that is 00 or ff. Words and code are far from all of that. */
#define TEXT_PRINTABLE 56u
#define NOISE_DIFFERENT 50u
#define NOISE_FILL 5u
#define WORDS_FILL 16u

static unsigned count_different(const uint8_t *bytes) {
    uint64_t seen[4] = { 0 };
    for (unsigned i = 0; i < SAMPLE; i++) {
        seen[bytes[i] / 64] |= UINT64_C(1) << (bytes[i] % 64);
    }
    unsigned n = 0;
    for (unsigned i = 0; i < 4; i++) {
        n += (unsigned)__builtin_popcountll(seen[i]);
    }
    return n;
}

enum page_kind page_kind(const uint8_t *page) {
    uint8_t bytes[SAMPLE];
    for (unsigned i = 0; i < LOOKS; i++) {
        memcpy(bytes + (size_t)i * LOOK, page + (size_t)i * STEP + HEAD, LOOK);
    }
    unsigned printable = 0, fill = 0;
    for (unsigned i = 0; i < SAMPLE; i++) {
        printable += (uint8_t)(bytes[i] - ' ') < 0x5f || (uint8_t)(bytes[i] - '\t') < 5;
        fill += (uint8_t)(bytes[i] + 1) < 2;
    }
    if (printable >= TEXT_PRINTABLE) {
        return KIND_TEXT;
    }
    if (fill >= WORDS_FILL) {
        return KIND_WORDS;
    }
    return fill < NOISE_FILL && count_different(bytes) >= NOISE_DIFFERENT ? KIND_NOISE : KIND_MIXED;
}
