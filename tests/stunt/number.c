/* SPDX-License-Identifier: Apache-2.0 */
#include "number.h"

#include <errno.h>
#include <stdlib.h>

static int unit_shift(const char *suffix) {
    if (suffix[0] == '\0') {
        return 0;
    }
    if (suffix[1] != '\0') {
        return -1;
    }
    switch (suffix[0]) {
    case 'K':
        return 10;
    case 'M':
        return 20;
    case 'G':
        return 30;
    default:
        return -1;
    }
}

int number_bytes(const char *text, const char *what, uint64_t *bytes, struct error *err) {
    char *end = NULL;
    double value = strtod(text, &end);
    int shift = end == text ? -1 : unit_shift(end);
    double product = shift < 0 ? -1 : value * (double)(UINT64_C(1) << shift);
    if (!(product >= 0 && product < 9e15)) {
        return error_set(err, ERROR_USAGE, "%s wants bytes, also with K, M or G, not \"%s\"", what, text);
    }
    *bytes = (uint64_t)product;
    return 0;
}

int number_count(const char *text, const char *what, uint64_t low, uint64_t high, uint64_t *count, struct error *err) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || *text == '-' || errno != 0 || value < low || value > high) {
        return error_set(err, ERROR_USAGE, "%s wants a number in %llu..%llu, not \"%s\"", what, (unsigned long long)low,
                         (unsigned long long)high, text);
    }
    *count = value;
    return 0;
}
