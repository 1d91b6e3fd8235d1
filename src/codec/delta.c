/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/delta.h"

#include <stdbool.h>
#include <string.h>

/* Equal bytes that end a run: fewer cost less inside it than the two numbers of another one. */
#define GAP 4u
#define NUMBER_BYTES_MAX 3 /* DELTA_PAGE_MAX has 17 bits */

static uint64_t difference64(const uint8_t *a, const uint8_t *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x ^ y;
}

static uint32_t difference32(const uint8_t *a, const uint8_t *b) {
    uint32_t x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x ^ y;
}

/* The lowest address comes first in the words compared: little-endian machines only, like the rest of the engine. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "first_byte() and last_byte() count from the low end");

static size_t first_byte(uint64_t x) {
    return (size_t)__builtin_ctzll(x) / 8;
}

static size_t last_byte(uint32_t x) {
    return (31 - (size_t)__builtin_clz(x)) / 8;
}

static bool has_zero_byte(uint64_t x) {
    return ((x - UINT64_C(0x0101010101010101)) & ~x & UINT64_C(0x8080808080808080)) != 0;
}

/* The first differing byte in [at, size), or size. */
static size_t find_difference(const uint8_t *old, const uint8_t *now, size_t at, size_t size) {
    for (; size - at >= 32; at += 32) {
        if ((difference64(old + at, now + at) | difference64(old + at + 8, now + at + 8) |
             difference64(old + at + 16, now + at + 16) | difference64(old + at + 24, now + at + 24)) != 0) {
            break;
        }
    }
    for (; size - at >= 8; at += 8) {
        uint64_t x = difference64(old + at, now + at);
        if (x != 0) {
            return at + first_byte(x);
        }
    }
    while (at < size && old[at] == now[at]) {
        at++;
    }
    return at;
}

/* The end of the run at `at`, where a byte differs: behind it come GAP equal bytes, or fewer and the end of the page.
 * Looks no further than a few bytes beyond `limit`. */
static size_t find_run_end(const uint8_t *old, const uint8_t *now, size_t at, size_t size, size_t limit) {
    while (size - at >= 8 && at < limit) {
        if (!has_zero_byte(difference64(old + at, now + at))) {
            at += 8;
            continue;
        }
        uint32_t x = difference32(old + at, now + at);
        if (x == 0) {
            return at;
        }
        at += last_byte(x) + 1; /* no gap begins before a byte that differs */
    }
    size_t run_end = at;
    for (; at < size && at - run_end < GAP && at < limit; at++) {
        run_end = old[at] != now[at] ? at + 1 : run_end;
    }
    return run_end;
}

static size_t number_size(size_t n) {
    return n < 1u << 7 ? 1 : n < 1u << 14 ? 2 : 3;
}

static uint8_t *put_number(uint8_t *out, size_t n) {
    for (; n >= 0x80; n >>= 7) {
        *out++ = (uint8_t)(n | 0x80);
    }
    *out++ = (uint8_t)n;
    return out;
}

size_t delta_encode(const uint8_t *old, const uint8_t *now, size_t size, uint8_t *out, size_t capacity) {
    uint8_t *to = out, *end = out + capacity;
    size_t at = 0;
    while (at < size) {
        size_t from = find_difference(old, now, at, size), room = (size_t)(end - to);
        if (from == size) {
            break;
        }
        size_t run_end = find_run_end(old, now, from, size, from + room);
        size_t length = run_end - from, skip = from - at;
        if (number_size(length) + number_size(skip) + length > room) {
            return 0;
        }
        to = put_number(put_number(to, length), skip);
        memcpy(to, now + from, length);
        to += length;
        at = run_end;
    }
    if (at < size) {
        if (to == end) {
            return 0;
        }
        *to++ = 0;
    }
    return (size_t)(to - out);
}

/* Takes a number of at most DELTA_PAGE_MAX in its shortest form; -1 for anything else. */
static int take_number(const uint8_t **in, const uint8_t *end, size_t *number) {
    size_t value = 0;
    for (unsigned i = 0; i < NUMBER_BYTES_MAX && *in < end; i++) {
        uint8_t byte = *(*in)++;
        value |= (size_t)(byte & 0x7f) << 7 * i;
        if ((byte & 0x80) == 0) {
            *number = value;
            return (byte == 0 && i > 0) || value > DELTA_PAGE_MAX ? -1 : 0;
        }
    }
    return -1;
}

int delta_decode(const uint8_t **in, const uint8_t *end, uint8_t *page, size_t size) {
    const uint8_t *from = *in;
    size_t at = 0, length, skip;
    while (at < size) {
        if (take_number(&from, end, &length) < 0) {
            return -1;
        }
        if (length == 0) {
            break;
        }
        if (take_number(&from, end, &skip) < 0 || skip > size - at || length > size - at - skip ||
            length > (size_t)(end - from)) {
            return -1;
        }
        memcpy(page + at + skip, from, length);
        from += length;
        at += skip + length;
    }
    *in = from;
    return 0;
}
