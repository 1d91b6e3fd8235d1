/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GODWIT_BASE_STEP_H
#define GODWIT_BASE_STEP_H

#include <stdint.h>

/* A step that goes through all of `count` things once, modulo `count`, and whose first few are never close together:
 * who is out of time on the way has still seen all regions. 1 to `count`. */
static inline uint64_t golden_step(uint64_t count) {
    uint64_t step = (uint64_t)((double)count * 0.6180339887) | 1;
    for (;; step++) {
        uint64_t a = step, b = count;
        while (b != 0) {
            uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) {
            return step;
        }
    }
}

#endif
