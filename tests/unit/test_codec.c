/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine asks of every codec; a new one only has to be in the table of codec.c. */
#include "codec/codec.h"
#include "support.h"

#define PAGE 4096u
#define GUARD 64u

static const size_t sizes[] = { 1,          2,        63,       64,        65,         4095,
                                PAGE,       PAGE + 1, 3 * PAGE, 16 * PAGE, 128 * PAGE, 128 * PAGE - 1,
                                1024 * PAGE };

enum content { ZEROS, ONE_BYTE, TEXT, NOISE, CONTENTS };

static void fill(enum content content, uint64_t seed, uint8_t *to, size_t size) {
    switch (content) {
    case ZEROS:
        memset(to, 0, size);
        break;
    case ONE_BYTE:
        memset(to, 0x5a, size);
        break;
    case TEXT:
        random_text(&seed, to, size);
        break;
    default:
        random_fill(&seed, to, size);
        break;
    }
}

/* A buffer of exactly `size` bytes between guards that a write outside would change. */
struct guarded {
    uint8_t *all, *data;
    size_t size;
};

static struct guarded guarded_new(size_t size) {
    struct guarded g = { .all = malloc(size + 2 * GUARD), .size = size };
    assert_non_null(g.all);
    g.data = g.all + GUARD;
    memset(g.all, 0xa5, size + 2 * GUARD);
    return g;
}

static void guarded_check(const struct guarded *g) {
    for (size_t i = 0; i < GUARD; i++) {
        assert_int_equal(g->all[i], 0xa5);
        assert_int_equal(g->data[g->size + i], 0xa5);
    }
}

static void round_trip(const struct codec_ops *codec, void *encoder, enum content content, size_t size) {
    uint8_t *in = malloc(size);
    assert_non_null(in);
    fill(content, size, in, size);
    size_t capacity = size - size / 16;
    struct guarded out = guarded_new(capacity), back = guarded_new(size);
    size_t n = codec->encode(encoder, in, size, out.data, capacity, 1);
    assert_true(n <= capacity);
    guarded_check(&out);
    if (content != NOISE && size >= PAGE) {
        assert_true(n > 0);
    }
    if (content == NOISE && size > GUARD) {
        assert_int_equal(n, 0);
    }
    if (n > 0) {
        assert_int_equal(codec->decode(codec->decoder_new(), out.data, n, back.data, size), 0);
        assert_memory_equal(back.data, in, size);
        guarded_check(&back);
    }
    free(in);
    free(out.all);
    free(back.all);
}

static void round_trips(void **state) {
    (void)state;
    for (unsigned id = 0; id < CODEC_COUNT; id++) {
        const struct codec_ops *codec = codec_by_id(id);
        if (codec == NULL) {
            continue;
        }
        void *encoder = codec->encoder_new();
        assert_non_null(encoder);
        for (size_t s = 0; s < COUNT(sizes); s++) {
            for (int c = 0; c < CONTENTS; c++) {
                round_trip(codec, encoder, (enum content)c, sizes[s]);
            }
        }
        codec->encoder_free(encoder);
    }
}

static void every_level_decodes(void **state) {
    (void)state;
    static const int levels[] = { 1, 2, 8, 1000, 65537 };
    static uint8_t in[16 * PAGE], out[16 * PAGE], back[16 * PAGE];
    void *encoder = codec_lz4.encoder_new();
    assert_non_null(encoder);
    fill(TEXT, 3, in, sizeof(in));
    for (size_t i = 0; i < COUNT(levels); i++) {
        size_t n = codec_lz4.encode(encoder, in, sizeof(in), out, sizeof(in), levels[i]);
        assert_true(n > 0 || levels[i] > 8); /* the fastest ones may find nothing at all */
        if (n > 0) {
            assert_int_equal(codec_lz4.decode(codec_lz4.decoder_new(), out, n, back, sizeof(back)), 0);
            assert_memory_equal(back, in, sizeof(in));
        }
    }
    codec_lz4.encoder_free(encoder);
}

/* Encodes 4 pages of text; returns the size. */
static size_t encode_sample(const struct codec_ops *codec, uint8_t *in, uint8_t *out) {
    void *encoder = codec->encoder_new();
    assert_non_null(encoder);
    fill(TEXT, 11, in, 4 * PAGE);
    size_t n = codec->encode(encoder, in, 4 * PAGE, out, 4 * PAGE - 1, 1);
    codec->encoder_free(encoder);
    assert_in_range(n, 1, 4 * PAGE - 1);
    return n;
}

static uint8_t plain[4 * PAGE], encoded[4 * PAGE];

/* Decodes a copy of exactly `n` bytes, so that AddressSanitizer sees a read behind them as well. */
static int decode_copy(const struct codec_ops *codec, const uint8_t *in, size_t n, size_t size) {
    uint8_t *copy = malloc(n > 0 ? n : 1);
    assert_non_null(copy);
    memcpy(copy, in, n);
    struct guarded out = guarded_new(size);
    int rc = codec->decode(codec->decoder_new(), copy, n, out.data, size);
    guarded_check(&out);
    free(out.all);
    free(copy);
    return rc;
}

static void truncated_input_is_refused(void **state) {
    (void)state;
    size_t n = encode_sample(&codec_lz4, plain, encoded);
    for (size_t cut = 0; cut < n; cut++) {
        assert_int_equal(decode_copy(&codec_lz4, encoded, cut, sizeof(plain)), -1);
    }
    assert_int_equal(decode_copy(&codec_lz4, encoded, n, sizeof(plain)), 0);
}

static void another_size_is_refused(void **state) {
    (void)state;
    size_t n = encode_sample(&codec_lz4, plain, encoded);
    static const size_t wrong[] = { 0, 1, PAGE, 4 * PAGE - 1, 4 * PAGE + 1, 8 * PAGE };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        assert_int_equal(decode_copy(&codec_lz4, encoded, n, wrong[i]), -1);
    }
}

static void flipped_input_stays_inside(void **state) {
    (void)state;
    size_t n = encode_sample(&codec_lz4, plain, encoded);
    for (size_t bit = 0; bit < n * 8; bit += n * 8 / 4000 + 1) {
        encoded[bit / 8] ^= (uint8_t)(1u << bit % 8);
        decode_copy(&codec_lz4, encoded, n, sizeof(plain)); /* may even decode: the digest finds that */
        encoded[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    uint64_t seed = 5;
    for (int i = 0; i < 2000; i++) {
        size_t size = random_below(&seed, sizeof(encoded));
        random_fill(&seed, encoded, size);
        decode_copy(&codec_lz4, encoded, size, random_below(&seed, sizeof(plain)));
    }
}

static void the_table(void **state) {
    (void)state;
    assert_ptr_equal(codec_by_id(CODEC_LZ4), &codec_lz4);
    assert_ptr_equal(codec_by_name("lz4"), &codec_lz4);
    assert_null(codec_by_id(CODEC_NONE));
    assert_null(codec_by_id(CODEC_COUNT));
    assert_null(codec_by_id(255));
    assert_null(codec_by_id(UINT32_MAX));
    assert_null(codec_by_name("none"));
    assert_null(codec_by_name("LZ4"));
    assert_string_equal(codec_name(CODEC_NONE), "none");
    assert_string_equal(codec_name(CODEC_LZ4), "lz4");
    for (unsigned id = 0; id < CODEC_COUNT; id++) {
        const struct codec_ops *codec = codec_by_id(id);
        assert_true(codec == NULL || codec->id == id);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(every_level_decodes),
        cmocka_unit_test(truncated_input_is_refused),
        cmocka_unit_test(another_size_is_refused),
        cmocka_unit_test(flipped_input_stays_inside),
        cmocka_unit_test(the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
