/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw deflate (RFC 1951) by ISA-L: several times zlib's speed, and the format that accelerators speak (seeds.md A2).
 *
 * The encoder makes one stream a unit. The decoder also takes several, one behind the other, each ended by its final
 * block and padded to a byte: accelerators split a unit into the sizes that their buffers have. A stream does not refer
 * to the ones before it.
 */
#include "codec/codec.h"

#include <isa-l/igzip_lib.h>
#include <stdlib.h>

#define CACHE_LINE 64u
#define LEVEL_MIN ISAL_DEF_MIN_LEVEL
#define LEVEL_MAX ISAL_DEF_MAX_LEVEL

struct encoder {
    struct isal_zstream stream;
    uint8_t *buffer; /* of the largest level */
};

static const uint32_t buffer_sizes[LEVEL_MAX + 1] = { ISAL_DEF_LVL0_DEFAULT, ISAL_DEF_LVL1_DEFAULT,
                                                      ISAL_DEF_LVL2_DEFAULT, ISAL_DEF_LVL3_DEFAULT };

/* The library wants its hash tables on cache lines. */
static void *allocate(size_t size) {
    return aligned_alloc(CACHE_LINE, (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
}

static void deflate_encoder_free(void *encoder) {
    struct encoder *e = encoder;
    if (e != NULL) {
        free(e->buffer);
        free(e);
    }
}

static void *deflate_encoder_new(void) {
    size_t largest = 0;
    for (int level = LEVEL_MIN; level <= LEVEL_MAX; level++) {
        largest = buffer_sizes[level] > largest ? buffer_sizes[level] : largest;
    }
    struct encoder *e = allocate(sizeof(*e));
    if (e == NULL) {
        return NULL;
    }
    e->buffer = allocate(largest);
    if (e->buffer == NULL) {
        free(e);
        return NULL;
    }
    return e;
}

static size_t deflate_encode(void *encoder, const uint8_t *in, size_t size, uint8_t *out, size_t capacity, int level) {
    struct encoder *e = encoder;
    struct isal_zstream *s = &e->stream;
    level = level < LEVEL_MIN ? LEVEL_MIN : level > LEVEL_MAX ? LEVEL_MAX : level;
    if (size > UINT32_MAX || capacity > UINT32_MAX) {
        return 0;
    }
    isal_deflate_stateless_init(s);
    s->end_of_stream = 1;
    s->flush = NO_FLUSH;
    s->level = (uint32_t)level;
    s->level_buf = level > 0 ? e->buffer : NULL;
    s->level_buf_size = buffer_sizes[level];
    s->next_in = (uint8_t *)(uintptr_t)in; /* only read */
    s->avail_in = (uint32_t)size;
    s->next_out = out;
    s->avail_out = (uint32_t)capacity;
    return isal_deflate_stateless(s) == COMP_OK && s->avail_in == 0 ? s->total_out : 0;
}

static void *deflate_decoder_new(void) {
    struct inflate_state *s = allocate(sizeof(*s));
    if (s != NULL) {
        isal_inflate_init(s);
    }
    return s;
}

static int deflate_decode(void *decoder, const uint8_t *in, size_t in_size, uint8_t *out, size_t size) {
    struct inflate_state *s = decoder;
    if (in_size > UINT32_MAX || size > UINT32_MAX) {
        return -1;
    }
    isal_inflate_reset(s);
    s->next_in = (uint8_t *)(uintptr_t)in;
    s->avail_in = (uint32_t)in_size;
    s->next_out = out;
    s->avail_out = (uint32_t)size;
    while (s->avail_in > 0) {
        uint32_t before = s->avail_in;
        /* Gives back the whole bytes behind the final block that it had read ahead. */
        if (isal_inflate_stateless(s) != ISAL_DECOMP_OK || s->block_state != ISAL_BLOCK_FINISH ||
            s->avail_in >= before) {
            return -1;
        }
    }
    return in_size > 0 && s->avail_out == 0 ? 0 : -1;
}

const struct codec_ops codec_deflate = {
    .name = "deflate",
    .id = CODEC_DEFLATE,
    .level_min = LEVEL_MIN,
    .level_max = LEVEL_MAX,
    .level_default = 1,
    .encoder_new = deflate_encoder_new,
    .encoder_free = deflate_encoder_free,
    .encode = deflate_encode,
    .decoder_new = deflate_decoder_new,
    .decoder_free = free,
    .decode = deflate_decode,
};
