/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GODWIT_BASE_ZERO_H
#define GODWIT_BASE_ZERO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Whether all `size` bytes are zero; size is a multiple of 64. Most pages that hold anything show it in their first
 * words, so a look at those saves the loop. */
static inline bool is_zero(const uint8_t *p, size_t size) {
    uint64_t head;
    memcpy(&head, p, sizeof(head));
    if (head != 0) {
        return false;
    }
    for (size_t at = 0; at < size; at += 64) {
        uint64_t w[8];
        memcpy(w, p + at, sizeof(w));
        if ((w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7]) != 0) {
            return false;
        }
    }
    return true;
}

#endif
