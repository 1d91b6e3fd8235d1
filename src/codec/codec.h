/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codecs behind one ops table. A unit is a batch of pages, never a single page (seeds.md A1). Framing, bounds and
 * digests live above (ram/, wire/frame.h); a codec only turns bytes into fewer bytes and back.
 */
#ifndef GODWIT_CODEC_CODEC_H
#define GODWIT_CODEC_CODEC_H

#include <stddef.h>
#include <stdint.h>

/* The numbers are on the wire. */
enum codec_id { CODEC_NONE = 0, CODEC_LZ4 = 1, CODEC_ZSTD = 2, CODEC_DEFLATE = 3, CODEC_COUNT };

/* Encoders and decoders have a state that one thread uses at a time. A codec that needs none returns some non-NULL
 * pointer. *_new() gives NULL when there is no memory; *_free() takes NULL. */
struct codec_ops {
    const char *name;
    enum codec_id id;
    /* The codec's own parameter; `encode` takes any value and treats what lies outside as the nearest one inside. */
    int level_min, level_max, level_default;

    void *(*encoder_new)(void);
    void (*encoder_free)(void *encoder);
    /* Returns the size of the result, or 0 when it does not fit into `capacity`: the caller passes a capacity below
     * `size`, so that what does not shrink goes uncompressed. */
    size_t (*encode)(void *encoder, const uint8_t *in, size_t size, uint8_t *out, size_t capacity, int level);

    void *(*decoder_new)(void);
    void (*decoder_free)(void *decoder);
    /* Must yield exactly `size` bytes; 0, or -1 when it would not. Safe on any input, whatever came before it. */
    int (*decode)(void *decoder, const uint8_t *in, size_t in_size, uint8_t *out, size_t size);
};

/* The codec of that wire number or name, or NULL. CODEC_NONE has no ops. */
const struct codec_ops *codec_by_id(unsigned id);
const struct codec_ops *codec_by_name(const char *name);
const char *codec_name(unsigned id);

extern const struct codec_ops codec_lz4;
extern const struct codec_ops codec_zstd;
extern const struct codec_ops codec_deflate;

#endif
