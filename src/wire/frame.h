/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What travels on a channel: frames. A frame is a header, `runs` page runs, and `payload` bytes.
 *
 *   PAGES     pages of one thing, not zero, one unit for the codec
 *   DELTA     pages of one thing, each as the change from the version that was sent last (codec/delta.h)
 *   ZERO      pages that are zero now and were not when they were last sent
 *   PASS_END  this channel has sent all that it will send of a pass; `pages` counts what it sent (mod 2^32)
 *
 * A thing is what pages belong to: a block of guest RAM; others (a disk) have numbers of their own when they come. A
 * receiver allows those that its migration has and no others.
 *
 * Two digests: `check` covers the header and the runs (where pages go), `digest` the pages as they were before any
 * codec and as they shall be in place (what goes there; ram/digest.h). Nothing is placed before both agree. Every
 * number of a decoded frame has been held against struct frame_bounds.
 */
#ifndef GODWIT_WIRE_FRAME_H
#define GODWIT_WIRE_FRAME_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER_SIZE 56
#define FRAME_RUN_SIZE 8
#define FRAME_MAX_PAGES 1024 /* pages in a PAGES frame, runs in any frame */
#define FRAME_PAGE_SIZE 4096
#define FRAME_MAX_RUN_PAGES 0xffffffu /* what 24 bits hold */

enum frame_kind { FRAME_PAGES = 1, FRAME_ZERO = 2, FRAME_PASS_END = 3, FRAME_DELTA = 4 };

enum frame_thing {
    FRAME_OF_ALL = 0, /* PASS_END, and nothing else */
    FRAME_RAM = 1,    /* a block of guest RAM */
    FRAME_THINGS = 2, /* one more than the last */
};

/* Pages [first, first + count) of the thing, in units of 4 KiB. On the wire: first in the upper 40 bits, count in the
 * lower 24. */
struct frame_run {
    uint64_t first;
    uint32_t count;
};

struct frame {
    uint8_t kind;
    uint8_t codec;
    uint8_t thing;  /* enum frame_thing */
    uint16_t index; /* which of its kind; 0 in a PASS_END */
    uint32_t pass;  /* from 1 */
    uint32_t runs;
    uint32_t pages;     /* sum over the runs */
    uint32_t payload;   /* bytes behind the runs */
    uint64_t digest[2]; /* of the pages, low half first */
    uint8_t device;     /* which accelerator made the payload, from 1; 0: none did */
};

/* What a receiver allows. */
struct frame_bounds {
    struct frame_space {
        uint16_t count;        /* 0: this migration has no such things */
        const uint64_t *pages; /* of each of them */
    } space[FRAME_THINGS];     /* by enum frame_thing */
    uint32_t max_pages;        /* in one PAGES or DELTA frame */
    uint32_t max_payload;      /* bytes */
};

/* Writes header and runs to `out` (FRAME_HEADER_SIZE + runs * FRAME_RUN_SIZE bytes) and returns that size. */
size_t frame_encode(const struct frame *f, const struct frame_run *runs, uint8_t *out);

/* First half: the header alone, so that the length of the rest is known. Checks all that can be checked without runs.
 */
int frame_decode_header(const uint8_t in[FRAME_HEADER_SIZE], const struct frame_bounds *b, struct frame *f,
                        struct error *err);

/* Second half: `in` is the header and the runs together. Runs must ascend, lie in the thing and add up to f->pages. */
int frame_decode_runs(const uint8_t *in, const struct frame_bounds *b, const struct frame *f, struct frame_run *runs,
                      struct error *err);

#endif
