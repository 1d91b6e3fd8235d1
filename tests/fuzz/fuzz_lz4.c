/* SPDX-License-Identifier: Apache-2.0 */
/* The codec alone. Two bytes say how long the result should be, the rest is decoded; and encoded and decoded again. */
#include "codec/codec.h"
#include "fuzz.h"

#define GUARD 64

static void decode(const uint8_t *data, size_t size, size_t want) {
    uint8_t *in = copy_of(data, size), *out = malloc(want + GUARD);
    MUST(out != NULL);
    memset(out, 0xa5, want + GUARD);
    codec_lz4.decode(codec_lz4.decoder_new(), in, size, out, want);
    for (size_t i = 0; i < GUARD; i++) {
        MUST(out[want + i] == 0xa5);
    }
    free(in);
    free(out);
}

static void round_trip(const uint8_t *data, size_t size) {
    void *encoder = codec_lz4.encoder_new();
    uint8_t *out = malloc(size), *back = malloc(size);
    MUST(encoder != NULL && out != NULL && back != NULL);
    size_t n = codec_lz4.encode(encoder, data, size, out, size - size / 16, 1);
    if (n > 0) {
        MUST(n <= size - size / 16);
        MUST(codec_lz4.decode(codec_lz4.decoder_new(), out, n, back, size) == 0);
        MUST(memcmp(back, data, size) == 0);
    }
    codec_lz4.encoder_free(encoder);
    free(out);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = { data, size };
    size_t want = take(&in, 2);
    decode(in.data, in.size, want);
    if (in.size > 0) {
        round_trip(in.data, in.size);
    }
    return 0;
}
