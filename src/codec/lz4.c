/* SPDX-License-Identifier: Apache-2.0 */
/* LZ4 block format (seeds.md C1): `lz4-acceleration` trades ratio for speed. */
#include "codec/codec.h"

#include <lz4.h>
#include <stdlib.h>

static void *lz4_encoder_new(void) {
    return malloc((size_t)LZ4_sizeofState());
}

static size_t lz4_encode(void *encoder, const uint8_t *in, size_t size, uint8_t *out, size_t capacity, int level) {
    int n = LZ4_compress_fast_extState(encoder, (const char *)in, (char *)out, (int)size, (int)capacity, level);
    return n > 0 ? (size_t)n : 0;
}

/* Decoding needs no state; this stands for one. */
static void *lz4_decoder_new(void) {
    static char nothing;
    return &nothing;
}

static void lz4_decoder_free(void *decoder) {
    (void)decoder;
}

static int lz4_decode(void *decoder, const uint8_t *in, size_t in_size, uint8_t *out, size_t size) {
    (void)decoder;
    int n = LZ4_decompress_safe((const char *)in, (char *)out, (int)in_size, (int)size);
    return n >= 0 && (size_t)n == size ? 0 : -1;
}

const struct codec_ops codec_lz4 = {
    .name = "lz4",
    .id = CODEC_LZ4,
    .level_min = 1,
    .level_max = 65537,
    .level_default = 1,
    .encoder_new = lz4_encoder_new,
    .encoder_free = free,
    .encode = lz4_encode,
    .decoder_new = lz4_decoder_new,
    .decoder_free = lz4_decoder_free,
    .decode = lz4_decode,
};
