/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/choice.h"
#include "support.h"

#define RAW ((size_t)512 << 10)

/* A host and a link as the chooser sees them. */
struct world {
    double wire_ns;   /* to send a byte */
    double encode_ns; /* to encode a byte */
    double ratio;
};

static const struct world fast_wire = { 0.1, 0.6, 0.5 };
static const struct world slow_wire = { 8.0, 0.6, 0.5 }; /* 1 Gbit/s */

/* One batch; true when it went compressed. */
static bool one_batch(struct choice *c, const struct compression_settings *s, const struct world *w) {
    if (choice_pick(c, s) == CODEC_NONE) {
        choice_learn(c, RAW, RAW, 0, (int64_t)((double)RAW * w->wire_ns));
        return false;
    }
    size_t sent = (size_t)((double)RAW * w->ratio);
    choice_learn(c, RAW, sent, (int64_t)((double)RAW * w->encode_ns), (int64_t)((double)sent * w->wire_ns));
    return true;
}

/* How many of `batches` went compressed. */
static int run(struct choice *c, const struct compression_settings *s, const struct world *w, int batches) {
    int compressed = 0;
    for (int i = 0; i < batches; i++) {
        compressed += one_batch(c, s, w);
    }
    return compressed;
}

static void what_is_set_is_done(void **state) {
    (void)state;
    struct choice c = { 0 };
    struct compression_settings s = { .codec = CODEC_NONE, .lz4_acceleration = 1 };
    assert_int_equal(run(&c, &s, &slow_wire, 300), 0);
    atomic_store(&s.codec, CODEC_LZ4);
    assert_int_equal(run(&c, &s, &fast_wire, 300), 300);
    atomic_store(&s.codec, CODEC_NONE);
    assert_int_equal(run(&c, &s, &slow_wire, 300), 0);
}

static void a_fast_wire_gets_raw_batches(void **state) {
    (void)state;
    struct choice c = { 0 };
    struct compression_settings s = { .codec = COMPRESSION_AUTO };
    run(&c, &s, &fast_wire, 16);
    assert_in_range(run(&c, &s, &fast_wire, 640), 1, 10); /* the trials */
}

static void a_slow_wire_gets_compressed_ones(void **state) {
    (void)state;
    struct choice c = { 0 };
    struct compression_settings s = { .codec = COMPRESSION_AUTO };
    assert_int_equal(run(&c, &s, &slow_wire, 1000), 1000);
}

static void what_does_not_shrink_goes_raw(void **state) {
    (void)state;
    struct choice c = { 0 };
    struct compression_settings s = { .codec = COMPRESSION_AUTO };
    const struct world noise = { 8.0, 0.6, 1.0 };
    run(&c, &s, &noise, 16);
    assert_in_range(run(&c, &s, &noise, 640), 1, 10);
    /* and a codec that is slower than what it saves */
    struct choice d = { 0 };
    const struct world slow_codec = { 8.0, 4.5, 0.5 };
    run(&d, &s, &slow_codec, 16);
    assert_in_range(run(&d, &s, &slow_codec, 640), 1, 10);
}

static void it_follows_a_wire_that_changes(void **state) {
    (void)state;
    struct choice c = { 0 };
    struct compression_settings s = { .codec = COMPRESSION_AUTO };
    run(&c, &s, &fast_wire, 500);
    run(&c, &s, &slow_wire, 200);
    assert_int_equal(run(&c, &s, &slow_wire, 100), 100);
    run(&c, &s, &fast_wire, 300);
    assert_in_range(run(&c, &s, &fast_wire, 640), 1, 10);
    run(&c, &s, &slow_wire, 200);
    assert_int_equal(run(&c, &s, &slow_wire, 100), 100);
}

/* The guest's memory turns from noise to text while nothing is compressed: only the trials can tell. */
static void it_follows_content_that_changes(void **state) {
    (void)state;
    struct choice c = { 0 };
    struct compression_settings s = { .codec = COMPRESSION_AUTO };
    const struct world noise = { 8.0, 0.6, 1.0 };
    run(&c, &s, &noise, 500);
    run(&c, &s, &slow_wire, 64 * 40);
    assert_int_equal(run(&c, &s, &slow_wire, 100), 100);
}

static void auto_after_a_forced_codec(void **state) {
    (void)state;
    struct choice c = { 0 };
    struct compression_settings s = { .codec = CODEC_NONE };
    run(&c, &s, &slow_wire, 100);
    atomic_store(&s.codec, COMPRESSION_AUTO);
    assert_int_equal(run(&c, &s, &slow_wire, 100), 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_set_is_done),
        cmocka_unit_test(a_fast_wire_gets_raw_batches),
        cmocka_unit_test(a_slow_wire_gets_compressed_ones),
        cmocka_unit_test(what_does_not_shrink_goes_raw),
        cmocka_unit_test(it_follows_a_wire_that_changes),
        cmocka_unit_test(it_follows_content_that_changes),
        cmocka_unit_test(auto_after_a_forced_codec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
