/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/kind.h"

#include "ram/backing.h"

#include <stdlib.h>
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

static void swap_pages(uint8_t *a, uint8_t *b) {
    uint8_t kept[RAM_PAGE_SIZE];
    memcpy(kept, a, RAM_PAGE_SIZE);
    memcpy(a, b, RAM_PAGE_SIZE);
    memcpy(b, kept, RAM_PAGE_SIZE);
}

int kind_sort(uint8_t *pages, size_t count) {
    size_t next[PAGE_KINDS] = { 0 }, *to = malloc((count > 0 ? count : 1) * sizeof(*to)), begin = 0;
    if (to == NULL) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        to[i] = page_kind(pages + i * RAM_PAGE_SIZE);
        next[to[i]]++;
    }
    for (size_t k = 0; k < PAGE_KINDS; k++) {
        size_t many = next[k];
        next[k] = begin;
        begin += many;
    }
    for (size_t i = 0; i < count; i++) {
        to[i] = next[to[i]]++;
    }
    for (size_t i = 0; i < count; i++) {
        while (to[i] != i) { /* what lies here belongs there: each swap puts one page where it stays */
            size_t there = to[i];
            swap_pages(pages + i * RAM_PAGE_SIZE, pages + there * RAM_PAGE_SIZE);
            to[i] = to[there];
            to[there] = there;
        }
    }
    free(to);
    return 0;
}
