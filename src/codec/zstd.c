/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zstandard (seeds.md D2): negative levels are nearly as fast as LZ4, high ones shrink more than deflate can.
 *
 * One plain frame a unit, without a checksum (batches have a digest) and without a content size (the frame header of
 * wire/frame.h has it). The one-shot functions write straight into the caller's buffer: they hold no window of their
 * own, so a frame that lies about its window or its content cannot make the decoder allocate anything.
 */
#include "codec/codec.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define LEVEL_MIN (-50) /* 0 is the library's own default, 3 */
#define LEVEL_MAX 19    /* above it a context takes hundreds of MiB */

struct encoder {
    ZSTD_CCtx *context;
    int level; /* that the context is set to */
};

static int clamp(int level) {
    return level < LEVEL_MIN ? LEVEL_MIN : level > LEVEL_MAX ? LEVEL_MAX : level;
}

static int set(ZSTD_CCtx *context, ZSTD_cParameter parameter, int value) {
    return ZSTD_isError(ZSTD_CCtx_setParameter(context, parameter, value)) ? -1 : 0;
}

static void zstd_encoder_free(void *encoder) {
    struct encoder *e = encoder;
    if (e != NULL) {
        ZSTD_freeCCtx(e->context);
        free(e);
    }
}

static void *zstd_encoder_new(void) {
    struct encoder *e = malloc(sizeof(*e));
    if (e == NULL) {
        return NULL;
    }
    *e = (struct encoder){ .context = ZSTD_createCCtx(), .level = 1 };
    if (e->context == NULL || set(e->context, ZSTD_c_compressionLevel, e->level) < 0 ||
        set(e->context, ZSTD_c_checksumFlag, 0) < 0 || set(e->context, ZSTD_c_contentSizeFlag, 0) < 0) {
        zstd_encoder_free(e);
        return NULL;
    }
    return e;
}

static size_t zstd_encode(void *encoder, const uint8_t *in, size_t size, uint8_t *out, size_t capacity, int level) {
    struct encoder *e = encoder;
    level = clamp(level);
    if (level != e->level) {
        if (set(e->context, ZSTD_c_compressionLevel, level) < 0) {
            return 0;
        }
        e->level = level;
    }
    size_t n = ZSTD_compress2(e->context, out, capacity, in, size);
    return ZSTD_isError(n) ? 0 : n;
}

static void *zstd_decoder_new(void) {
    return ZSTD_createDCtx();
}

static void zstd_decoder_free(void *decoder) {
    ZSTD_freeDCtx(decoder);
}

/* Whether the input is one frame of today's format. The library would also take several frames, skippable ones, and
 * those of its first years, whose decoders nobody looks after any more. */
static int is_one_frame(const uint8_t *in, size_t in_size) {
    static const uint8_t magic[] = { 0x28, 0xb5, 0x2f, 0xfd };
    return in_size >= sizeof(magic) && memcmp(in, magic, sizeof(magic)) == 0 &&
           ZSTD_findFrameCompressedSize(in, in_size) == in_size;
}

static int zstd_decode(void *decoder, const uint8_t *in, size_t in_size, uint8_t *out, size_t size) {
    if (!is_one_frame(in, in_size)) {
        return -1;
    }
    size_t n = ZSTD_decompressDCtx(decoder, out, size, in, in_size);
    return !ZSTD_isError(n) && n == size ? 0 : -1;
}

const struct codec_ops codec_zstd = {
    .name = "zstd",
    .id = CODEC_ZSTD,
    .level_min = LEVEL_MIN,
    .level_max = LEVEL_MAX,
    .level_default = 1,
    .encoder_new = zstd_encoder_new,
    .encoder_free = zstd_encoder_free,
    .encode = zstd_encode,
    .decoder_new = zstd_decoder_new,
    .decoder_free = zstd_decoder_free,
    .decode = zstd_decode,
};
