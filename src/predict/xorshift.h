/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that look random and are the same each time (xorshift64). */
#ifndef GODWIT_PREDICT_XORSHIFT_H
#define GODWIT_PREDICT_XORSHIFT_H

#include <stdint.h>

/* The next one; `state` is never 0. */
static inline uint64_t xorshift(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
