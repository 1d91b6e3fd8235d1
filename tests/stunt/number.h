/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as people type them. */
#ifndef STUNT_NUMBER_H
#define STUNT_NUMBER_H

#include "base/error.h"

#include <stdint.h>

/* "512", "64K", "1.5M", "2G" (powers of 1024) to bytes. `what` names the option in the error. */
int number_bytes(const char *text, const char *what, uint64_t *bytes, struct error *err);
/* A decimal number in [low, high]. */
int number_count(const char *text, const char *what, uint64_t low, uint64_t high, uint64_t *count, struct error *err);

/* The finaliser of splitmix64: a cheap bijection that spreads every input bit over all output bits. */
static inline uint64_t number_mix(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* xorshift64*; the state must not be 0. */
static inline uint64_t number_random(uint64_t *state) {
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

#endif
