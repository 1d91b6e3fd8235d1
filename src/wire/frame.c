/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/frame.h"

#include "wire/bytes.h"

#include <xxhash.h>

/* Layout: magic 4, kind 1, codec 1, index 2, pass 4, runs 4, pages 4, payload 4, digest 16, device 1, thing 1,
 * reserved 6, check 8. */
#define FRAME_MAGIC 0x33465747u /* "GWF3" */
#define RESERVED_AT 42
#define CHECK_AT 48
#define RUN_COUNT_BITS 24

/* Covers the header up to the check itself, and the runs. */
static uint64_t check_of(const uint8_t *frame, size_t size) {
    return XXH3_64bits_withSeed(frame + FRAME_HEADER_SIZE, size - FRAME_HEADER_SIZE, XXH3_64bits(frame, CHECK_AT));
}

size_t frame_encode(const struct frame *f, const struct frame_run *runs, uint8_t *out) {
    memset(out, 0, FRAME_HEADER_SIZE);
    put_u32(out, FRAME_MAGIC);
    out[4] = f->kind;
    out[5] = f->codec;
    put_u16(out + 6, f->index);
    put_u32(out + 8, f->pass);
    put_u32(out + 12, f->runs);
    put_u32(out + 16, f->pages);
    put_u32(out + 20, f->payload);
    put_u64(out + 24, f->digest[0]);
    put_u64(out + 32, f->digest[1]);
    out[40] = f->device;
    out[41] = f->thing;
    for (uint32_t i = 0; i < f->runs; i++) {
        put_u64(out + FRAME_HEADER_SIZE + i * FRAME_RUN_SIZE, runs[i].first << RUN_COUNT_BITS | runs[i].count);
    }
    size_t size = FRAME_HEADER_SIZE + f->runs * FRAME_RUN_SIZE;
    put_u64(out + CHECK_AT, check_of(out, size));
    return size;
}

static int refuse(struct error *err, const char *what, uint64_t value) {
    return error_set(err, ERROR_CORRUPT, "a frame with %s %llu arrived, which cannot be", what,
                     (unsigned long long)value);
}

/* The one bounds check for numbers of a frame: `value` may be 0 … `max`. */
static int bounded(struct error *err, const char *what, uint64_t value, uint64_t max) {
    return value <= max ? 0 : refuse(err, what, value);
}

static int check_pages_frame(const struct frame *f, const struct frame_bounds *b, struct error *err) {
    if (f->runs == 0 || f->pages == 0 || f->payload == 0) {
        return refuse(err, "no pages, pass", f->pass);
    }
    return bounded(err, "pages", f->pages, b->max_pages) | bounded(err, "a payload of", f->payload, b->max_payload);
}

/* One of those that this migration has. */
static int check_thing(const struct frame *f, const struct frame_bounds *b, struct error *err) {
    if (f->thing == FRAME_OF_ALL || f->thing >= FRAME_THINGS || b->space[f->thing].count == 0) {
        return refuse(err, "the kind of thing", f->thing);
    }
    return f->index < b->space[f->thing].count ? 0 : refuse(err, "the RAM block", f->index);
}

/* So that a later version may give them a meaning that nobody overlooks. */
static int check_reserved(const uint8_t *in, struct error *err) {
    for (unsigned i = RESERVED_AT; i < CHECK_AT; i++) {
        if (in[i] != 0) {
            return refuse(err, "a reserved byte of", in[i]);
        }
    }
    return 0;
}

int frame_decode_header(const uint8_t in[FRAME_HEADER_SIZE], const struct frame_bounds *b, struct frame *f,
                        struct error *err) {
    if (get_u32(in) != FRAME_MAGIC) {
        return refuse(err, "the magic", get_u32(in));
    }
    *f = (struct frame){
        .kind = in[4],
        .codec = in[5],
        .index = get_u16(in + 6),
        .pass = get_u32(in + 8),
        .runs = get_u32(in + 12),
        .pages = get_u32(in + 16),
        .payload = get_u32(in + 20),
        .digest = { get_u64(in + 24), get_u64(in + 32) },
        .device = in[40],
        .thing = in[41],
    };
    if (check_reserved(in, err) < 0) {
        return -1;
    }
    if (f->kind == FRAME_PASS_END) {
        return bounded(err, "the kind of thing", f->thing, FRAME_OF_ALL) | bounded(err, "the index", f->index, 0) |
               bounded(err, "runs", f->runs, 0) | bounded(err, "a payload of", f->payload, 0);
    }
    if (check_thing(f, b, err) < 0) {
        return -1;
    }
    if (bounded(err, "runs", f->runs, FRAME_MAX_PAGES) < 0) {
        return -1;
    }
    if (f->kind == FRAME_PAGES || f->kind == FRAME_DELTA) {
        return check_pages_frame(f, b, err);
    }
    if (f->kind == FRAME_ZERO) {
        return f->runs == 0 ? refuse(err, "no runs, pass", f->pass) : bounded(err, "a payload of", f->payload, 0);
    }
    return refuse(err, "the kind", f->kind);
}

static int verify_check(const uint8_t *in, size_t size, struct error *err) {
    if (check_of(in, size) != get_u64(in + CHECK_AT)) {
        return error_set(err, ERROR_CORRUPT, "the header of a frame was damaged on its way");
    }
    return 0;
}

int frame_decode_runs(const uint8_t *in, const struct frame_bounds *b, const struct frame *f, struct frame_run *runs,
                      struct error *err) {
    size_t size = FRAME_HEADER_SIZE + (size_t)f->runs * FRAME_RUN_SIZE;
    if (verify_check(in, size, err) < 0) {
        return -1;
    }
    uint64_t next = 0, total = 0, pages = f->runs > 0 ? b->space[f->thing].pages[f->index] : 0;
    for (uint32_t i = 0; i < f->runs; i++) {
        uint64_t packed = get_u64(in + FRAME_HEADER_SIZE + i * FRAME_RUN_SIZE);
        runs[i].first = packed >> RUN_COUNT_BITS;
        runs[i].count = packed & ((1u << RUN_COUNT_BITS) - 1);
        uint64_t end = runs[i].first + runs[i].count;
        if (runs[i].count == 0 || runs[i].first < next || end > pages) {
            return refuse(err, "the page", runs[i].first);
        }
        next = end;
        total += runs[i].count;
    }
    if (f->kind != FRAME_PASS_END && total != f->pages) {
        return refuse(err, "a page count of", f->pages);
    }
    return 0;
}
