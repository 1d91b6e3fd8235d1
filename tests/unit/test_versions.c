/* SPDX-License-Identifier: Apache-2.0 */
/* Sender and receiver over many passes in which pages change a little, not at all, to zero and back: with digests and
 * the cache or without, with any number of threads, and with all of it changing while it runs. */
#include "base/bits.h"
#include "ram/send_internal.h"
#include "rig.h"

#include <unistd.h>

static const uint64_t block_pages[] = { 900, 1, 513, 65 };
#define BLOCKS COUNT(block_pages)
#define ALL_PAGES (900 + 1 + 513 + 65)

static uint64_t seed;

static uint64_t counted(struct rig *r, size_t offset) {
    return atomic_load((_Atomic uint64_t *)((char *)ram_send_counters(r->send) + offset));
}
#define COUNTED(r, field) counted((r), offsetof(struct ram_counters, field))

static void change_bytes(struct rig *r, size_t block, uint64_t page, uint64_t n) {
    uint8_t data[RAM_PAGE_SIZE];
    struct error err = { 0 };
    assert_ok(ram_read(&r->source.blocks[block], page, 1, data, &err) == 0, &err);
    while (n-- > 0) {
        data[random_below(&seed, sizeof(data))] ^= (uint8_t)(1 + random_below(&seed, 255)); /* another one, always */
    }
    rig_write(r, block, page, data);
}

static void change_page(struct rig *r, size_t block, uint64_t page) {
    static const uint8_t zeros[RAM_PAGE_SIZE];
    uint8_t data[RAM_PAGE_SIZE];
    switch (random_below(&seed, 10)) {
    case 0:
        rig_write(r, block, page, zeros);
        break;
    case 1:
        rig_write(r, block, page, NULL);
        break;
    case 2: /* written with what it held */
    case 3:
        bits_set(r->source.blocks[block].dirty, page);
        break;
    case 4:
        random_fill(&seed, data, sizeof(data));
        rig_write(r, block, page, data);
        break;
    case 5:
        random_text(&seed, data, sizeof(data));
        rig_write(r, block, page, data);
        break;
    default:
        change_bytes(r, block, page, random_below(&seed, 60) + 1);
    }
}

static void each_page(struct rig *r, void (*change)(struct rig *r, size_t block, uint64_t page), unsigned one_in) {
    for (size_t i = 0; i < BLOCKS; i++) {
        for (uint64_t page = 0; page < block_pages[i]; page++) {
            if (random_below(&seed, one_in) == 0) {
                change(r, i, page);
            }
        }
    }
}

static void fill(struct rig *r, size_t block, uint64_t page) {
    uint8_t data[RAM_PAGE_SIZE];
    random_text(&seed, data, sizeof(data));
    rig_write(r, block, page, data);
}

static void rewrite(struct rig *r, size_t block, uint64_t page) {
    bits_set(r->source.blocks[block].dirty, page);
}

static void write_a_little(struct rig *r, size_t block, uint64_t page) {
    change_bytes(r, block, page, 1);
}

static uint64_t bytes_sent(const struct rig *r) {
    uint64_t n = 0;
    for (unsigned i = 0; i < r->channels; i++) {
        n += atomic_load(&r->to[i].sent);
    }
    return n;
}

/* Returns the bytes that the pass took. */
static uint64_t pass_and_compare(struct rig *r) {
    struct error err = { 0 };
    uint64_t sent = bytes_sent(r);
    assert_ok(rig_pass(r, &err) == 0, &err);
    rig_assert_equal(r);
    assert_int_equal(ram_dirty_pages(&r->source), 0);
    return bytes_sent(r) - sent;
}

static void open_rig(struct rig *r, struct rig_plan plan) {
    plan.block_pages = block_pages;
    plan.blocks = BLOCKS;
    rig_open(r, &plan);
}

/* Everything that is counted adds up to what was dirty. */
static void mixed(struct rig_plan plan) {
    struct rig r;
    seed = 99 + plan.channels * 1000 + plan.pages_per_batch * 10 + plan.threads;
    open_rig(&r, plan);
    each_page(&r, fill, 1);
    pass_and_compare(&r);
    uint64_t dirty = ALL_PAGES;
    for (int i = 0; i < 4; i++) {
        each_page(&r, change_page, 2);
        dirty += ram_dirty_pages(&r.source);
        pass_and_compare(&r);
    }
    uint64_t content = COUNTED(&r, normal) + COUNTED(&r, delta);
    assert_int_equal(content + COUNTED(&r, unchanged) + COUNTED(&r, duplicate), dirty);
    assert_int_equal(content, ram_receive_pages(r.receive));
    assert_int_equal(COUNTED(&r, done), dirty);
    assert_true((COUNTED(&r, delta) > 0) == (plan.cache > 0));
    assert_true((COUNTED(&r, delta_bytes) > 0) == (plan.cache > 0));
    assert_true((COUNTED(&r, unchanged) > 0) == !plan.no_digests);
    rig_close(&r);
}

static void any_number_of_threads(void **state) {
    (void)state;
    for (unsigned threads = 1; threads <= 8; threads++) {
        mixed((struct rig_plan){ .channels = threads % RIG_CHANNELS + 1,
                                 .pages_per_batch = threads % 2 ? 128 : 7,
                                 .codec = CODEC_LZ4,
                                 .threads = threads,
                                 .cache = 8 << 20 });
    }
}

static void any_codec(void **state) {
    (void)state;
    static const int codecs[] = {
        COMPRESSION_AUTO, COMPRESSION_ACCEL, CODEC_NONE, CODEC_LZ4, CODEC_ZSTD, CODEC_DEFLATE
    };
    static const unsigned batches[] = { 1, 7, 128, 1024 };
    for (size_t c = 0; c < COUNT(codecs); c++) {
        for (size_t b = 0; b < COUNT(batches); b++) {
            mixed((struct rig_plan){ .channels = 1 + (unsigned)b,
                                     .pages_per_batch = batches[b],
                                     .codec = codecs[c],
                                     .threads = 3,
                                     .cache = 8 << 20 });
        }
    }
}

static void with_some_of_it_off(void **state) {
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        mixed((struct rig_plan){ .channels = 2,
                                 .pages_per_batch = 64,
                                 .codec = CODEC_LZ4,
                                 .threads = 4,
                                 .no_digests = (i & 1) != 0,
                                 .cache = (i & 2) != 0 ? 1 << 20 : 0 });
    }
}

static void what_did_not_change_is_not_sent(void **state) {
    (void)state;
    struct rig r;
    open_rig(&r, (struct rig_plan){ .channels = 2, .pages_per_batch = 128, .codec = CODEC_NONE, .cache = 8 << 20 });
    each_page(&r, fill, 1);
    pass_and_compare(&r);
    for (unsigned i = 1; i < 4; i++) {
        each_page(&r, rewrite, 1);
        assert_int_equal(pass_and_compare(&r), 2 * FRAME_HEADER_SIZE); /* the end of the pass, on two channels */
        assert_int_equal(COUNTED(&r, unchanged), i * ALL_PAGES);
    }
    rig_close(&r);
}

static void a_small_change_is_a_small_frame(void **state) {
    (void)state;
    struct rig r;
    open_rig(&r, (struct rig_plan){ .channels = 1, .pages_per_batch = 128, .codec = CODEC_NONE, .cache = 16 << 20 });
    each_page(&r, fill, 1);
    pass_and_compare(&r);
    each_page(&r, write_a_little, 1);
    pass_and_compare(&r); /* now they are in the cache */
    each_page(&r, write_a_little, 1);
    assert_true(pass_and_compare(&r) < (uint64_t)ALL_PAGES * 200);
    assert_true(COUNTED(&r, delta) > ALL_PAGES / 2);
    rig_close(&r);
}

/* A page that becomes zero and comes back as it was: nothing remembers what it was before it was zero. */
static void zero_and_back(void **state) {
    (void)state;
    static const uint8_t zeros[RAM_PAGE_SIZE];
    uint8_t data[RAM_PAGE_SIZE];
    struct rig r;
    open_rig(&r, (struct rig_plan){ .channels = 1, .pages_per_batch = 16, .codec = CODEC_NONE, .cache = 1 << 20 });
    random_text(&seed, data, sizeof(data));
    for (unsigned i = 0; i < 12; i++) {
        /* off and on while there are zeros at the other side as pages and as holes */
        atomic_store(&r.compression.zero_detection, i % 3 != 0);
        data[0] = (uint8_t)(i / 4);
        for (uint64_t page = 0; page < 40; page++) {
            rig_write(&r, 0, page, (page + i) % 4 == 0 ? NULL : (page + i) % 2 == 0 ? zeros : data);
        }
        pass_and_compare(&r);
    }
    rig_close(&r);
}

/* All that may change while it runs does, between passes and during them. */
static void settings_change_while_it_runs(void **state) {
    (void)state;
    static const uint64_t caches[] = { 0, 64 << 10, 1 << 20, 3 << 20, 16 << 20 };
    static const int codecs[] = { COMPRESSION_AUTO, CODEC_NONE, CODEC_LZ4, CODEC_ZSTD, CODEC_DEFLATE };
    struct rig r;
    struct error err = { 0 };
    seed = 4321;
    open_rig(&r, (struct rig_plan){ .channels = 4, .pages_per_batch = 32, .codec = CODEC_LZ4, .threads = 6 });
    each_page(&r, fill, 1);
    for (int i = 0; i < 40; i++) {
        ram_send_set_cache(r.send, caches[random_below(&seed, COUNT(caches))]);
        ram_send_set_urgent(r.send, i % 5 == 0);
        assert_int_equal(ram_send_start(r.send, true), ++r.pass);
        int rc;
        while ((rc = ram_send_poll(r.send, &err)) == 0) {
            ram_send_set_threads(r.send, (unsigned)random_below(&seed, 9), 0.1 + (double)random_below(&seed, 80) / 10);
            atomic_store(&r.compression.codec, codecs[random_below(&seed, COUNT(codecs))]);
            atomic_store(&r.compression.level[CODEC_ZSTD], (int)random_below(&seed, 5) - 2);
            atomic_store(&r.compression.bypass, random_below(&seed, 2) != 0);
        }
        assert_ok(rc > 0 && rig_wait_received(&r, r.pass, &err) == 0, &err);
        rig_assert_equal(&r);
        each_page(&r, change_page, 3);
    }
    rig_close(&r);
}

#define PASSES_MOST 20 /* on a machine that others keep busy, threads may never work at once */

/* Told to be fewer, threads that gather go on with what they have in their hands, and with nothing new. False: there
 * never were several at work. */
static bool be_fewer(void) {
    struct rig r;
    struct error err = { 0 };
    uint8_t data[RAM_PAGE_SIZE];
    uint64_t done = 0;
    bool told = false;
    open_rig(&r, (struct rig_plan){ .channels = 1, .pages_per_batch = 16, .codec = CODEC_ZSTD, .threads = 4 });
    atomic_store(&r.compression.level[CODEC_ZSTD], 12);
    for (int i = 0; !told && i < PASSES_MOST; i++) { /* in most passes several gather at once */
        for (uint64_t page = 0; page < block_pages[0]; page++) {
            random_text(&seed, data, sizeof(data));
            rig_write(&r, 0, page, data);
        }
        assert_int_equal(ram_send_start(r.send, true), ++r.pass);
        int rc;
        while ((rc = ram_send_poll(r.send, &err)) == 0) {
            uint64_t by_now = COUNTED(&r, done); /* before the look: several of them did all of it, if there are yet */
            pthread_mutex_lock(&r.send->lock);
            unsigned gathering = r.send->gathering;
            pthread_mutex_unlock(&r.send->lock);
            if (told && gathering > 1 && by_now > done) {
                assert_true(by_now - done <= 4 * PAGE_KINDS * 16); /* what four shelves hold */
            } else if (!told && gathering > 1 && by_now < block_pages[0] / 4) {
                ram_send_set_threads(r.send, 1, 1);
                done = COUNTED(&r, done);
                told = true;
            }
        }
        assert_ok(rc > 0 && rig_wait_received(&r, r.pass, &err) == 0, &err);
    }
    rig_assert_equal(&r);
    rig_close(&r);
    return told;
}

static void fewer_threads_while_it_runs(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++) { /* which of them sees it first is chance */
        if (!be_fewer()) {
            print_message("skipped: in %d passes several threads never gathered at once here\n", PASSES_MOST);
            skip();
        }
    }
}

/* What the destination has rejected comes again in full, whatever was remembered of it. */
static void what_is_forgotten_comes_in_full(void **state) {
    (void)state;
    struct rig r;
    open_rig(&r, (struct rig_plan){ .channels = 2, .pages_per_batch = 16, .codec = CODEC_NONE, .cache = 16 << 20 });
    each_page(&r, fill, 1);
    pass_and_compare(&r);
    each_page(&r, write_a_little, 1);
    pass_and_compare(&r);
    uint64_t normal = COUNTED(&r, normal), deltas = COUNTED(&r, delta), unchanged = COUNTED(&r, unchanged);
    ram_send_forget(r.send, 0, 100, 300);
    ram_send_forget(r.send, 2, 512, 1);
    ram_send_forget(r.send, 2, 512, 1); /* twice is once */
    for (uint64_t page = 50; page < 350; page += 3) {
        change_bytes(&r, 0, page, 1);
    }
    for (uint64_t page = 380; page < 390; page++) {
        rig_write(&r, 0, page, NULL);
    }
    pass_and_compare(&r);
    assert_int_equal(COUNTED(&r, normal) - normal, 301 - 10 + (17 - (COUNTED(&r, delta) - deltas)));
    assert_int_equal(COUNTED(&r, unchanged), unchanged);
    ram_send_forget(r.send, 1, 0, 1); /* a page that is zero here: what is there is not known, so it is told */
    rig_write(&r, 1, 0, NULL);
    pass_and_compare(&r);
    rig_close(&r);
}

/* Ended in the middle of a pass, with threads that gather, that wait for a channel, and that write. */
static void closed_in_the_middle(void **state) {
    (void)state;
    for (unsigned threads = 1; threads <= 8; threads += 3) {
        for (int wait_ms = 0; wait_ms < 4; wait_ms++) {
            struct rig r;
            open_rig(&r, (struct rig_plan){ .channels = 3,
                                            .pages_per_batch = 8,
                                            .codec = wait_ms % 2 ? CODEC_ZSTD : CODEC_NONE,
                                            .threads = threads,
                                            .cache = 1 << 20 });
            each_page(&r, fill, 1);
            ram_send_start(r.send, true);
            clock_sleep(wait_ms * CLOCK_MS);
            rig_close(&r);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_threads),
        cmocka_unit_test(any_codec),
        cmocka_unit_test(with_some_of_it_off),
        cmocka_unit_test(what_did_not_change_is_not_sent),
        cmocka_unit_test(a_small_change_is_a_small_frame),
        cmocka_unit_test(zero_and_back),
        cmocka_unit_test(settings_change_while_it_runs),
        cmocka_unit_test(fewer_threads_while_it_runs),
        cmocka_unit_test(what_is_forgotten_comes_in_full),
        cmocka_unit_test(closed_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
