/* SPDX-License-Identifier: Apache-2.0 */
/* Any zlib can read what we make, and we read what any zlib makes, also in several streams. */
#include "codec/codec.h"
#include "support.h"

#include <zlib.h>

#define UNIT (128 * 4096u)

static uint8_t plain[UNIT], encoded[2 * UNIT], back[UNIT];
static void *encoder, *decoder;

static int open_both(void **state) {
    (void)state;
    uint64_t seed = 3;
    random_text(&seed, plain, sizeof(plain) / 2);
    memset(plain + sizeof(plain) / 2, 0x11, sizeof(plain) / 4); /* the last quarter stays zero */
    encoder = codec_deflate.encoder_new();
    decoder = codec_deflate.decoder_new();
    return encoder != NULL && decoder != NULL ? 0 : -1;
}

static int close_both(void **state) {
    (void)state;
    codec_deflate.encoder_free(encoder);
    codec_deflate.decoder_free(decoder);
    return 0;
}

static void zlib_reads_ours(void **state) {
    (void)state;
    for (int level = codec_deflate.level_min; level <= codec_deflate.level_max; level++) {
        for (size_t size = 4096; size <= UNIT; size *= 2) {
            size_t n = codec_deflate.encode(encoder, plain, size, encoded, size - 1, level);
            assert_in_range(n, 1, size - 1);
            z_stream z = { .next_in = encoded, .avail_in = (uInt)n, .next_out = back, .avail_out = (uInt)size };
            assert_int_equal(inflateInit2(&z, -MAX_WBITS), Z_OK);
            assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
            assert_int_equal(z.avail_in, 0);
            assert_int_equal(z.total_out, size);
            inflateEnd(&z);
            assert_memory_equal(back, plain, size);
        }
    }
}

/* One raw stream of plain[from, from + size) at encoded[at]; returns where it ends. */
static size_t zlib_encode(size_t at, size_t from, size_t size, int level, int memory, int strategy) {
    z_stream z = { .next_in = plain + from, .avail_in = (uInt)size };
    z.next_out = encoded + at;
    z.avail_out = (uInt)(sizeof(encoded) - at);
    assert_int_equal(deflateInit2(&z, level, Z_DEFLATED, -MAX_WBITS, memory, strategy), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t end = at + z.total_out;
    deflateEnd(&z);
    return end;
}

static void assert_decodes(size_t n) {
    memset(back, 0xee, sizeof(back));
    assert_int_equal(codec_deflate.decode(decoder, encoded, n, back, sizeof(back)), 0);
    assert_memory_equal(back, plain, sizeof(plain));
}

static void we_read_zlib(void **state) {
    (void)state;
    static const int strategies[] = { Z_DEFAULT_STRATEGY, Z_FILTERED, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED };
    for (int level = 0; level <= 9; level++) {
        for (size_t s = 0; s < COUNT(strategies); s++) {
            assert_decodes(zlib_encode(0, 0, UNIT, level, 1 + level % 9, strategies[s]));
        }
    }
}

static void we_read_several_streams(void **state) {
    (void)state;
    static const size_t pieces[] = { 1, 37, 4096, 65536, UNIT - 1 };
    for (size_t p = 0; p < COUNT(pieces); p++) {
        size_t at = 0, streams = 0;
        for (size_t from = 0; from < UNIT && streams < 1000; streams++) {
            size_t size = streams == 999 || UNIT - from < pieces[p] ? UNIT - from : pieces[p];
            at = zlib_encode(at, from, size, (int)(streams % 10), 8, Z_DEFAULT_STRATEGY);
            from += size;
        }
        assert_true(streams > 1);
        assert_decodes(at);
        assert_int_equal(codec_deflate.decode(decoder, encoded, at - 1, back, sizeof(back)), -1);
        assert_int_equal(codec_deflate.decode(decoder, encoded, at, back, sizeof(back) - 1), -1);
    }
}

/* A match may reach back only to where its own stream began: what the first one wrote is not the second one's. */
static void streams_do_not_share_a_window(void **state) {
    (void)state;
    /* fixed block, final: a match of length 3 at distance 1, end of block */
    static const uint8_t match_first[] = { 0x03, 0x02, 0x00 };
    static const uint8_t one_a[] = { 0x4b, 0x04, 0x00 }; /* "a" */
    uint8_t both[sizeof(one_a) + sizeof(match_first)], out[4];
    memcpy(both, one_a, sizeof(one_a));
    memcpy(both + sizeof(one_a), match_first, sizeof(match_first));
    assert_int_equal(codec_deflate.decode(decoder, one_a, sizeof(one_a), out, 1), 0);
    assert_int_equal(out[0], 'a');
    assert_int_equal(codec_deflate.decode(decoder, both, sizeof(both), out, 4), -1);
}

static void a_stream_of_nothing_is_a_stream(void **state) {
    (void)state;
    size_t n = zlib_encode(0, 0, UNIT, 6, 8, Z_DEFAULT_STRATEGY);
    n = zlib_encode(n, 0, 0, 6, 8, Z_DEFAULT_STRATEGY);
    assert_decodes(n);
    assert_int_equal(codec_deflate.decode(decoder, encoded, 0, back, 0), -1); /* but no stream is none */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zlib_reads_ours),
        cmocka_unit_test(we_read_zlib),
        cmocka_unit_test(we_read_several_streams),
        cmocka_unit_test(streams_do_not_share_a_window),
        cmocka_unit_test(a_stream_of_nothing_is_a_stream),
    };
    return cmocka_run_group_tests(tests, open_both, close_both);
}
