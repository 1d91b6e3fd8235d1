/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every codec's target does. Two bytes of the input are a number: without its highest bit, the size that the
 * result should have. When that bit is clear, the rest is decoded as it is, and then put over some bytes of a sound
 * sample and decoded with that. When it is set, the rest is encoded and must come back; then a few bytes of what was
 * encoded are changed, and that is decoded. So each input gets deep into the decoder: most changes of a seed do not get
 * past the checks at its door.
 *
 * The codecs are assembler in part, which no sanitizer looks into: buffers end where a page begins that nobody may
 * touch. Encoders and decoders live for the whole run, like those of a channel, and each input meets what the last one
 * left.
 */
#ifndef GODWIT_TESTS_FUZZ_FUZZ_CODEC_H
#define GODWIT_TESTS_FUZZ_FUZZ_CODEC_H

#include "codec/codec.h"
#include "fuzz.h"

#include <sys/mman.h>

#define FENCED_MAX ((size_t)64 << 10)
#define FENCE 4096u
#define CANARY 64u

/* `size` bytes, up to FENCED_MAX, that end where memory ends, with a few of 0xa5 in front. Each `slot` is one buffer,
 * which is used again in the next run. */
static inline uint8_t *fenced(unsigned slot, size_t size) {
    static uint8_t *end[4];
    if (end[slot] == NULL) {
        size_t room = FENCE + FENCED_MAX;
        uint8_t *all = mmap(NULL, room + FENCE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MUST(all != MAP_FAILED && mprotect(all + room, FENCE, PROT_NONE) == 0);
        end[slot] = all + room;
    }
    MUST(size <= FENCED_MAX);
    uint8_t *data = end[slot] - size;
    memset(data - CANARY, 0xa5, CANARY);
    return data;
}

static inline uint8_t *fenced_copy(unsigned slot, const uint8_t *from, size_t size) {
    uint8_t *data = fenced(slot, size);
    if (size > 0) {
        memcpy(data, from, size);
    }
    return data;
}

/* Nothing was written in front of it. */
static inline void check_fence(const uint8_t *data) {
    for (const uint8_t *p = data - CANARY; p < data; p++) {
        MUST(*p == 0xa5);
    }
}

static inline void fuzz_round_trip(const struct codec_ops *codec, void *encoder, void *decoder, struct input *in) {
    enum { IN, OUT, BACK };
    /* The slow levels find other matches, not other formats. */
    unsigned levels = (unsigned)((codec->level_max < 9 ? codec->level_max : 9) - codec->level_min + 1);
    int level = codec->level_min + (int)(take(in, 1) % levels);
    uint32_t changes = take(in, 1) % 4, where[4], by[4];
    for (uint32_t i = 0; i < changes; i++) {
        where[i] = take(in, 2);
        by[i] = take(in, 1);
    }
    if (in->size == 0) {
        return;
    }
    size_t capacity = in->size - in->size / 16;
    uint8_t *plain = fenced_copy(IN, in->data, in->size), *out = fenced(OUT, capacity), *back = fenced(BACK, in->size);
    size_t n = codec->encode(encoder, plain, in->size, out, capacity, level);
    check_fence(out);
    if (n == 0) {
        return;
    }
    MUST(n <= capacity);
    uint8_t *encoded = fenced_copy(IN, out, n);
    MUST(codec->decode(decoder, encoded, n, back, in->size) == 0);
    check_fence(back);
    MUST(memcmp(back, in->data, in->size) == 0);
    for (uint32_t i = 0; i < changes; i++) {
        encoded[where[i] % n] ^= (uint8_t)by[i];
    }
    codec->decode(decoder, encoded, n, back, in->size);
    check_fence(back);
}

#define SAMPLES 8u
#define SAMPLE_SIZE 4000u

struct fuzz_sample {
    uint8_t data[SAMPLE_SIZE];
    size_t size;
};

/* Levels from the fastest to a strong one, contents from nothing new to half noise. */
static inline void make_samples(const struct codec_ops *codec, void *encoder, struct fuzz_sample samples[SAMPLES]) {
    static uint8_t plain[SAMPLE_SIZE];
    unsigned levels = (unsigned)((codec->level_max < 9 ? codec->level_max : 9) - codec->level_min);
    uint32_t state = 1;
    for (unsigned s = 0; s < SAMPLES; s++) {
        for (size_t i = 0; i < SAMPLE_SIZE; i++) {
            state = state * 1664525 + 1013904223;
            plain[i] = i % 32 < 2 * s ? (uint8_t)(state >> 24 & 0x1f) : (uint8_t)(i / 64);
        }
        int level = codec->level_min + (int)(s * levels / (SAMPLES - 1));
        samples[s].size = codec->encode(encoder, plain, SAMPLE_SIZE, samples[s].data, SAMPLE_SIZE, level);
    }
    MUST(samples[SAMPLES - 1].size > 0);
}

static inline void fuzz_overlay(const struct codec_ops *codec, void *encoder, void *decoder, struct input *in) {
    static struct fuzz_sample samples[SAMPLES];
    if (samples[SAMPLES - 1].size == 0) {
        make_samples(codec, encoder, samples);
    }
    const struct fuzz_sample *sample = &samples[take(in, 1) % SAMPLES];
    size_t length = 1 + take(in, 1) % 16, at = take(in, 2);
    if (sample->size == 0) {
        return; /* a level that found nothing in it */
    }
    uint8_t *encoded = fenced_copy(0, sample->data, sample->size), *out = fenced(1, SAMPLE_SIZE);
    at %= sample->size;
    for (size_t i = 0; i < length && i < in->size && at + i < sample->size; i++) {
        encoded[at + i] = in->data[i];
    }
    codec->decode(decoder, encoded, sample->size, out, SAMPLE_SIZE);
    check_fence(out);
}

static inline void fuzz_codec(const struct codec_ops *codec, const uint8_t *data, size_t size) {
    static void *encoder, *decoder;
    if (encoder == NULL) {
        encoder = codec->encoder_new();
        decoder = codec->decoder_new();
        MUST(encoder != NULL && decoder != NULL);
    }
    struct input in = { data, size };
    uint32_t want = take(&in, 2);
    if ((want & 0x8000) != 0) {
        fuzz_round_trip(codec, encoder, decoder, &in);
        return;
    }
    if (in.size <= FENCED_MAX) {
        uint8_t *encoded = fenced_copy(0, in.data, in.size), *out = fenced(1, want);
        codec->decode(decoder, encoded, in.size, out, want);
        check_fence(out);
        fuzz_overlay(codec, encoder, decoder, &in);
    }
}

#endif
