/* SPDX-License-Identifier: Apache-2.0 */
/* What a look at a batch may decide, and what only its measure may. */
#include "ram/encode.h"
#include "support.h"

#define PAGES 128u
#define RAW ((size_t)PAGES * RAM_PAGE_SIZE)

static struct choice choice;
static struct compression_settings settings;
static struct encoder encoder;
static struct batch *batch;
static uint64_t seed;

/* A link for which compression pays, and one CPU. */
static int setup(void **state) {
    (void)state;
    seed = 21;
    settings = (struct compression_settings){ .codec = COMPRESSION_AUTO, .level = { 0, 1, 1, 1 }, .bypass = true };
    choice_init(&choice, 2, 1);
    choice_resume(&choice, 0);
    int64_t clock = 0;
    for (unsigned i = 0; i < 200; i++) {
        clock += (int64_t)RAW * 20;
        choice_written(&choice, RAW, RAW, RAW / 4, (int64_t)RAW * 20, clock);
    }
    encoder = (struct encoder){ .choice = &choice, .compression = &settings };
    batch = batch_new(PAGES, NULL);
    assert_non_null(batch);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    batch_free(batch);
    encoder_free(&encoder);
    choice_destroy(&choice);
    return 0;
}

/* A batch of that kind goes through; returns whether a codec ran over it. */
static bool send(enum page_kind kind) {
    struct pick pick;
    struct error err = { 0 };
    batch_reset(batch, 0, 1);
    batch->kind = kind;
    for (uint64_t page = 0; page < PAGES; page++) {
        batch_add(&batch->full, page);
    }
    if (!encode_choose(&encoder, batch, &pick)) {
        assert_int_equal(batch->codec, CODEC_NONE);
        assert_int_equal(batch->payload_size, RAW);
        return false;
    }
    assert_ok(encode_batch(&encoder, &pick, batch, &err) == 0, &err);
    return true;
}

static void hardly_any_codec_runs_over_noise(void **state) {
    (void)state;
    unsigned ran = 0;
    for (unsigned i = 0; i < 600; i++) {
        random_fill(&seed, batch->bytes, RAW);
        ran += send(KIND_NOISE);
        assert_int_equal(batch->payload_size, RAW);
    }
    assert_true(ran > 0 && ran < 40);
}

/* It looks like noise, page by page and all of it; and yet it is there twice. A trial finds that out. */
static void noise_that_shrinks_is_found_out(void **state) {
    (void)state;
    unsigned small = 0;
    atomic_store(&settings.bypass, true);
    for (unsigned i = 0; i < 1000; i++) {
        random_fill(&seed, batch->bytes, RAW / 2);
        memcpy(batch->bytes + RAW / 2, batch->bytes, RAW / 2);
        send(KIND_NOISE);
        small += batch->payload_size < RAW * 6 / 10;
    }
    assert_true(small > 0);
}

/* What was made to look like text, and is none: it goes as it is, and soon nothing is tried on it any more. */
static void text_that_is_none_goes_raw(void **state) {
    (void)state;
    unsigned ran = 0;
    for (unsigned i = 0; i < 300; i++) {
        random_fill(&seed, batch->bytes, RAW);
        for (size_t at = 0; at < RAW; at += RAM_PAGE_SIZE) { /* enough that the sample of the batch is no noise */
            memset(batch->bytes + at, 'x', 200);
        }
        bool codec = send(KIND_TEXT);
        assert_true(batch->payload_size <= RAW);
        ran += i >= 100 && codec;
    }
    assert_true(ran < 20);
}

#define EACH(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        EACH(hardly_any_codec_runs_over_noise),
        EACH(noise_that_shrinks_is_found_out),
        EACH(text_that_is_none_goes_raw),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
