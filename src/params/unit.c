/* SPDX-License-Identifier: Apache-2.0 */
#include "params/unit.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* A bare number times `up`, divided by `down`, is the value. */
struct suffix {
    const char *text;
    int64_t up, down;
    bool any_case;
    bool shown; /* unit_format() may write it */
};

#define POWER(n, k) ((int64_t)1 << ((n) * (k)))
#define KILO INT64_C(1000)
#define MEGA (KILO * KILO)
#define GIGA (MEGA * KILO)
#define TERA (GIGA * KILO)

/* Of several that fit, unit_format() takes the first. */
static const struct suffix milliseconds[] = { { "h", 3600000, 1, false, false },
                                              { "min", 60000, 1, false, false },
                                              { "s", 1000, 1, false, true },
                                              { "ms", 1, 1, false, true },
                                              { 0 } };
static const struct suffix seconds[] = { { "h", 3600, 1, false, true },
                                         { "min", 60, 1, false, true },
                                         { "s", 1, 1, false, true },
                                         { "ms", 1, 1000, false, false },
                                         { 0 } };
#define SIZES                                                                                                          \
    { "T", POWER(10, 4), 1, false, true }, { "G", POWER(10, 3), 1, false, true }, {                                    \
        "M", POWER(10, 2), 1, false, true                                                                              \
    }
#define MORE_SIZES                                                                                                     \
    { "K", POWER(10, 1), 1, false, true }, { "TiB", POWER(10, 4), 1, false, false },                                   \
        { "GiB", POWER(10, 3), 1, false, false }, { "MiB", POWER(10, 2), 1, false, false },                            \
        { "KiB", POWER(10, 1), 1, false, false }, { "TB", TERA, 1, false, false }, { "GB", GIGA, 1, false, false },    \
        { "MB", MEGA, 1, false, false }, { "kB", KILO, 1, false, false }, {                                            \
        "B", 1, 1, false, false                                                                                        \
    }
static const struct suffix bytes[] = { SIZES, MORE_SIZES, { 0 } };
static const struct suffix bytes_per_s[] = {
    SIZES,      { "tbit", TERA, 8, true, true },  { "gbit", GIGA, 8, true, true }, { "mbit", MEGA, 8, true, true },
    MORE_SIZES, { "kbit", KILO, 8, true, false }, { "bit", 1, 8, true, false },    { 0 }
};
static const struct suffix bits_per_s[] = { { "tbit", TERA, 1, true, true }, { "gbit", GIGA, 1, true, true },
                                            { "mbit", MEGA, 1, true, true }, { "kbit", KILO, 1, true, true },
                                            { "bit", 1, 1, true, true },     { "T", TERA, 1, false, false },
                                            { "G", GIGA, 1, false, false },  { "M", MEGA, 1, false, false },
                                            { "k", KILO, 1, false, false },  { 0 } };
static const struct suffix percent[] = { { "%", 1, 1, false, true }, { 0 } };
static const struct suffix nothing[] = { { 0 } };

static const struct unit_row {
    const char *name, *examples;
    const struct suffix *suffixes;
    bool per_second; /* "/s" may follow a suffix */
} units[UNIT_COUNT] = {
    [UNIT_NONE] = { "", "", nothing, false },
    [UNIT_PAGES] = { "pages", "128", nothing, false },
    [UNIT_MS] = { "ms", "300, 300ms or 2s", milliseconds, false },
    [UNIT_S] = { "s", "60, 60s or 5min", seconds, false },
    [UNIT_BYTES] = { "bytes", "128M, 1G or 500MB", bytes, false },
    [UNIT_BYTES_PER_S] = { "bytes/s", "1gbit, 100mbit/s or 128M", bytes_per_s, true },
    [UNIT_BITS_PER_S] = { "bits/s", "1gbit, 100mbit/s or 10G", bits_per_s, true },
    [UNIT_PERCENT] = { "%", "30 or 30%", percent, false },
};

const char *unit_name(enum unit unit) {
    return units[unit].name;
}

const char *unit_examples(enum unit unit) {
    return units[unit].examples;
}

/* A number as it stands: digits, the point taken out, and how many stood behind it. */
struct decimal {
    __uint128_t digits;
    unsigned behind;
};

/* More digits than this are nobody's quantity; and so no product below can be beyond 128 bits: 10^25 · 2^40 < 2^124. */
#define MOST_DIGITS 25

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Returns what follows the number; NULL: there is none. A point has digits on both sides. */
static const char *read_decimal(const char *text, struct decimal *d) {
    unsigned count = 0;
    bool point = false;
    *d = (struct decimal){ 0, 0 };
    if (!is_digit(*text)) {
        return NULL;
    }
    for (; is_digit(*text) || (*text == '.' && !point); text++) {
        if (*text == '.') {
            point = true;
            continue;
        }
        if (++count > MOST_DIGITS) {
            return NULL;
        }
        d->digits = d->digits * 10 + (unsigned)(*text - '0');
        d->behind += point;
    }
    return text[-1] == '.' ? NULL : text;
}

static bool is_suffix(const char *text, size_t length, const struct suffix *s) {
    return strlen(s->text) == length &&
           (s->any_case ? strncasecmp(text, s->text, length) : strncmp(text, s->text, length)) == 0;
}

/* NULL: not one of this unit. */
static const struct suffix *find_suffix(const struct unit_row *row, const char *text) {
    static const struct suffix bare = { "", 1, 1, false, false };
    size_t length = strlen(text);
    if (length == 0) {
        return &bare;
    }
    if (row->per_second && length > 2 && strcmp(text + length - 2, "/s") == 0) {
        length -= 2;
    }
    for (const struct suffix *s = row->suffixes; s->text != NULL; s++) {
        if (is_suffix(text, length, s)) {
            return s;
        }
    }
    return NULL;
}

enum unit_outcome unit_parse(enum unit unit, const char *text, int64_t *value) {
    const struct unit_row *row = &units[unit];
    bool minus = unit == UNIT_NONE && *text == '-';
    struct decimal d;
    const char *end = read_decimal(text + minus, &d);
    const struct suffix *s = end != NULL ? find_suffix(row, end) : NULL;
    if (s == NULL || (minus && d.digits == 0) || (d.behind > 0 && row->suffixes == nothing)) {
        return UNIT_NONSENSE;
    }
    __uint128_t divisor = (unsigned)s->down, product = d.digits * (__uint128_t)s->up;
    for (unsigned i = 0; i < d.behind; i++) {
        divisor *= 10;
    }
    if (product % divisor != 0) {
        return UNIT_NOT_WHOLE;
    }
    if (product / divisor > INT64_MAX) {
        return UNIT_OVERFLOW;
    }
    *value = minus ? -(int64_t)product : (int64_t)(product / divisor);
    return UNIT_READ;
}

/* How many of the suffix `value` is, or 0 when it is not a whole number of them. */
static int64_t in_suffix(const struct suffix *s, int64_t value) {
    __extension__ __int128 scaled = (__int128)value * s->down;
    return scaled % s->up == 0 ? (int64_t)(scaled / s->up) : 0;
}

const char *unit_format(enum unit unit, int64_t value, char text[UNIT_TEXT_SIZE]) {
    const struct unit_row *row = &units[unit];
    for (const struct suffix *s = row->suffixes; value != 0 && s->text != NULL; s++) {
        int64_t n = s->shown ? in_suffix(s, value) : 0;
        if (n != 0) {
            snprintf(text, UNIT_TEXT_SIZE, "%lld%s%s", (long long)n, s->text, row->per_second ? "/s" : "");
            return text;
        }
    }
    snprintf(text, UNIT_TEXT_SIZE, "%lld", (long long)value);
    return text;
}
