/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantities as people write them: "300ms", "1gbit", "128M", "30%". What is not a whole number of the kind's own unit
 * is refused, never rounded. No locale has a say: the decimal point is a point, and digits are ASCII.
 */
#ifndef GODWIT_PARAMS_UNIT_H
#define GODWIT_PARAMS_UNIT_H

#include <stddef.h>
#include <stdint.h>

/* What a number counts; a bare number is in this unit. */
enum unit {
    UNIT_NONE,        /* a level, a number of things: takes no suffix and no decimals */
    UNIT_PAGES,       /* of 4 KiB: likewise */
    UNIT_MS,          /* ms, s, min, h */
    UNIT_S,           /* the same suffixes */
    UNIT_BYTES,       /* B; K, M, G, T and KiB … TiB: powers of 1024; kB, MB, GB, TB: powers of 1000 */
    UNIT_BYTES_PER_S, /* the same, and bit, kbit, mbit, gbit, tbit in any case: powers of 1000; each with or without /s
                       */
    UNIT_BITS_PER_S,  /* bit … tbit as above; k, M, G, T: powers of 1000; each with or without /s */
    UNIT_PERCENT,     /* % */
    UNIT_COUNT,
};

enum unit_outcome {
    UNIT_READ,
    UNIT_NONSENSE,  /* no number, or no suffix of this kind */
    UNIT_NOT_WHOLE, /* a fraction of the unit */
    UNIT_OVERFLOW,  /* beyond 64 bits */
};

/* Reads all of `text`; *value only on UNIT_READ. A minus is read for UNIT_NONE alone, "-0" never. */
enum unit_outcome unit_parse(enum unit unit, const char *text, int64_t *value);

/* "ms", "bytes/s", "%"; "" for UNIT_NONE. Static. */
const char *unit_name(enum unit unit);
/* What one may write, for an error or --help: "300ms or 2s". Static. */
const char *unit_examples(enum unit unit);

#define UNIT_TEXT_SIZE 48
/* `value` with the suffix that makes it short and keeps it exact: unit_parse() reads the same value from it. Returns
 * `text`. */
const char *unit_format(enum unit unit, int64_t value, char text[UNIT_TEXT_SIZE]);

#endif
