/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine asks of every codec; a new one only has to be in the table of codec.c, and here. */
#include "codec/codec.h"
#include "support.h"

#include <sys/mman.h>

#define PAGE 4096u
#define GUARD 64u
#define LEVELS 8
#define SLOW_LEVEL 3 /* above it, only units up to SLOW_SIZE: else these tests would take minutes */
#define SLOW_SIZE (16 * PAGE)

static const size_t sizes[] = { 1,          2,        63,       64,        65,         4095,
                                PAGE,       PAGE + 1, 3 * PAGE, 16 * PAGE, 128 * PAGE, 128 * PAGE - 1,
                                1024 * PAGE };

enum content { ZEROS, ONE_BYTE, TEXT, NOISE, CONTENTS };

/* One codec with the states of one thread. The levels are a sample; the first is the default, 0 ends them. */
struct rig {
    const struct codec_ops *codec;
    const int levels[LEVELS];
    void *encoder, *decoder;
};

static struct rig rigs[] = {
    { &codec_lz4, { 1, 2, 8, 1000, 65537 } },
    { &codec_zstd, { 1, -50, -5, -1, 3, 9, 19 } },
    { &codec_deflate, { 1, 2, 3 } }, /* and 0: see levels_are_clamped() */
};

#define FOR_EACH(b) for (struct rig *b = rigs; b < rigs + COUNT(rigs); b++)

static int open_all(void **state) {
    (void)state;
    FOR_EACH(b) {
        b->encoder = b->codec->encoder_new();
        b->decoder = b->codec->decoder_new();
        if (b->encoder == NULL || b->decoder == NULL) {
            return -1;
        }
    }
    return 0;
}

static int close_all(void **state) {
    (void)state;
    FOR_EACH(b) {
        b->codec->encoder_free(b->encoder);
        b->codec->decoder_free(b->decoder);
        b->codec->encoder_free(NULL);
        b->codec->decoder_free(NULL);
    }
    return 0;
}

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

/* A buffer of exactly `size` bytes. Behind it no memory is mapped: codecs are assembler in part, which sanitizers do
 * not see into. In front are bytes that a write would change. */
struct guarded {
    uint8_t *all, *data;
    size_t size, mapped;
};

static struct guarded guarded_new(size_t size) {
    struct guarded g = { .size = size, .mapped = (size + GUARD + PAGE - 1) / PAGE * PAGE };
    g.all = mmap(NULL, g.mapped + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.all != MAP_FAILED);
    assert_int_equal(mprotect(g.all + g.mapped, PAGE, PROT_NONE), 0);
    g.data = g.all + g.mapped - size;
    memset(g.data - GUARD, 0xa5, GUARD);
    return g;
}

static struct guarded guarded_copy(const uint8_t *from, size_t size) {
    struct guarded g = guarded_new(size);
    if (size > 0) {
        memcpy(g.data, from, size);
    }
    return g;
}

static void guarded_free(struct guarded *g) {
    for (size_t i = 1; i <= GUARD; i++) {
        assert_int_equal(g->data[-(ptrdiff_t)i], 0xa5);
    }
    munmap(g->all, g->mapped + PAGE);
}

/* Decodes exactly what it is given, into exactly the room that it asks for. */
static int decode_exactly(const struct rig *b, const uint8_t *in, size_t n, size_t size, const uint8_t *expected) {
    struct guarded encoded = guarded_copy(in, n), out = guarded_new(size);
    int rc = b->codec->decode(b->decoder, encoded.data, n, out.data, size);
    if (rc == 0 && expected != NULL) {
        assert_memory_equal(out.data, expected, size);
    }
    guarded_free(&encoded);
    guarded_free(&out);
    return rc;
}

static size_t round_trip(const struct rig *b, int level, enum content content, size_t size, size_t capacity) {
    struct guarded in = guarded_new(size), out = guarded_new(capacity);
    fill(content, size, in.data, size);
    size_t n = b->codec->encode(b->encoder, in.data, size, out.data, capacity, level);
    assert_true(n <= capacity);
    if (n > 0) {
        assert_int_equal(decode_exactly(b, out.data, n, size, in.data), 0);
    }
    guarded_free(&in);
    guarded_free(&out);
    return n;
}

static void round_trips_at(const struct rig *b, int level) {
    for (size_t s = 0; s < COUNT(sizes); s++) {
        size_t size = sizes[s], capacity = size - size / 16;
        if (size > SLOW_SIZE && level > SLOW_LEVEL) {
            continue;
        }
        for (int c = 0; c < CONTENTS; c++) {
            size_t n = round_trip(b, level, (enum content)c, size, capacity);
            if (c != NOISE && size >= PAGE && level == b->levels[0]) {
                assert_true(n > 0);
            }
            if (c == NOISE && size > GUARD) {
                assert_int_equal(n, 0);
            }
        }
    }
}

static void round_trips(void **state) {
    (void)state;
    FOR_EACH(b) {
        assert_int_equal(b->levels[0], b->codec->level_default);
        for (size_t l = 0; b->levels[l] != 0; l++) {
            round_trips_at(b, b->levels[l]);
        }
        round_trips_at(b, b->codec->level_min);
    }
}

/* With room to spare, even noise comes back; with none, nothing is written. */
static void any_capacity_will_do(void **state) {
    (void)state;
    FOR_EACH(b) {
        for (size_t l = 0; b->levels[l] != 0; l++) {
            assert_true(round_trip(b, b->levels[l], NOISE, 4 * PAGE, 5 * PAGE) > 4 * PAGE);
            size_t n = round_trip(b, b->levels[l], ONE_BYTE, 4 * PAGE, 4 * PAGE);
            assert_in_range(n, 1, 4 * PAGE);
            for (size_t capacity = 0; capacity < n; capacity++) {
                size_t fewer = round_trip(b, b->levels[l], ONE_BYTE, 4 * PAGE, capacity);
                assert_true(fewer <= capacity);
            }
        }
    }
}

static uint8_t plain[4 * PAGE], encoded[4 * PAGE], twin[4 * PAGE];

static size_t encode_sample(const struct rig *b, int level, uint8_t *out) {
    fill(TEXT, 11, plain, sizeof(plain));
    size_t n = b->codec->encode(b->encoder, plain, sizeof(plain), out, sizeof(plain) - 1, level);
    assert_in_range(n, 1, sizeof(plain) - 1);
    return n;
}

static void levels_are_clamped(void **state) {
    (void)state;
    static const int far[] = { 1, 2, 1000, 1 << 30 };
    FOR_EACH(b) {
        size_t n = encode_sample(b, b->codec->level_min, encoded);
        for (size_t i = 0; i < COUNT(far); i++) {
            assert_int_equal(encode_sample(b, b->codec->level_min - far[i], twin), n);
            assert_memory_equal(encoded, twin, n);
        }
        n = b->codec->encode(b->encoder, plain, sizeof(plain), encoded, sizeof(plain), b->codec->level_max);
        for (size_t i = 0; i < COUNT(far); i++) {
            int level = b->codec->level_max + far[i];
            assert_int_equal(b->codec->encode(b->encoder, plain, sizeof(plain), twin, sizeof(plain), level), n);
            assert_memory_equal(encoded, twin, n);
        }
    }
}

static void truncated_input_is_refused(void **state) {
    (void)state;
    FOR_EACH(b) {
        size_t n = encode_sample(b, 1, encoded);
        for (size_t cut = 0; cut < n; cut++) {
            assert_int_equal(decode_exactly(b, encoded, cut, sizeof(plain), NULL), -1);
        }
        assert_int_equal(decode_exactly(b, encoded, n, sizeof(plain), plain), 0);
    }
}

static void trailing_input_is_refused(void **state) {
    (void)state;
    FOR_EACH(b) {
        size_t n = encode_sample(b, 1, encoded);
        assert_true(n + 16 <= sizeof(encoded));
        memset(encoded + n, 0, 16);
        for (size_t more = 1; more <= 16; more++) {
            assert_int_equal(decode_exactly(b, encoded, n + more, sizeof(plain), NULL), -1);
        }
    }
}

static void another_size_is_refused(void **state) {
    (void)state;
    static const size_t wrong[] = { 0, 1, PAGE, 4 * PAGE - 1, 4 * PAGE + 1, 8 * PAGE };
    FOR_EACH(b) {
        size_t n = encode_sample(b, 1, encoded);
        for (size_t i = 0; i < COUNT(wrong); i++) {
            assert_int_equal(decode_exactly(b, encoded, n, wrong[i], NULL), -1);
        }
    }
}

static void flipped_input_stays_inside(void **state) {
    (void)state;
    uint64_t seed = 5;
    FOR_EACH(b) {
        size_t n = encode_sample(b, 1, encoded);
        for (size_t bit = 0; bit < n * 8; bit += n * 8 / 4000 + 1) {
            encoded[bit / 8] ^= (uint8_t)(1u << bit % 8);
            decode_exactly(b, encoded, n, sizeof(plain), NULL); /* may even decode: the digest finds that */
            encoded[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        /* and after all of them the decoder is as good as new */
        assert_int_equal(decode_exactly(b, encoded, n, sizeof(plain), plain), 0);
        for (int i = 0; i < 2000; i++) {
            size_t size = random_below(&seed, sizeof(twin));
            random_fill(&seed, twin, size);
            decode_exactly(b, twin, size, random_below(&seed, sizeof(plain)), NULL);
        }
    }
}

/* zstd alone: what its library would take and we do not. */
static void only_one_plain_frame(void **state) {
    (void)state;
    const struct rig *b = &rigs[1];
    assert_ptr_equal(b->codec, &codec_zstd);
    static uint8_t two[2 * sizeof(plain)];
    size_t n = encode_sample(b, 1, encoded);
    memcpy(two, encoded, n);
    memcpy(two + n, encoded, n);
    assert_int_equal(decode_exactly(b, two, 2 * n, 2 * sizeof(plain), NULL), -1);
    memcpy(two, "\x50\x2a\x4d\x18\x04\0\0\0skip", 12);
    memcpy(two + 12, encoded, n);
    assert_int_equal(decode_exactly(b, two, 12 + n, sizeof(plain), NULL), -1);
    assert_int_equal(decode_exactly(b, two, 12, 0, NULL), -1);
    for (uint8_t version = 0x1e; version < 0x28; version++) { /* the magic numbers of the formats before 1.0 */
        memcpy(two, encoded, n);
        two[0] = version;
        assert_int_equal(decode_exactly(b, two, n, sizeof(plain), NULL), -1);
    }
}

static void the_table(void **state) {
    (void)state;
    FOR_EACH(b) {
        assert_ptr_equal(codec_by_id(b->codec->id), b->codec);
        assert_ptr_equal(codec_by_name(b->codec->name), b->codec);
        assert_string_equal(codec_name(b->codec->id), b->codec->name);
        assert_in_range(b->codec->level_default - b->codec->level_min, 0, b->codec->level_max - b->codec->level_min);
    }
    unsigned there = 0;
    for (unsigned id = 0; id < CODEC_COUNT; id++) {
        there += codec_by_id(id) != NULL;
    }
    assert_int_equal(there, COUNT(rigs));
    assert_null(codec_by_id(CODEC_NONE));
    assert_null(codec_by_id(CODEC_COUNT));
    assert_null(codec_by_id(255));
    assert_null(codec_by_id(UINT32_MAX));
    assert_null(codec_by_name("none"));
    assert_null(codec_by_name("LZ4"));
    assert_string_equal(codec_name(CODEC_NONE), "none");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(any_capacity_will_do),
        cmocka_unit_test(levels_are_clamped),
        cmocka_unit_test(truncated_input_is_refused),
        cmocka_unit_test(trailing_input_is_refused),
        cmocka_unit_test(another_size_is_refused),
        cmocka_unit_test(flipped_input_stays_inside),
        cmocka_unit_test(only_one_plain_frame),
        cmocka_unit_test(the_table),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
