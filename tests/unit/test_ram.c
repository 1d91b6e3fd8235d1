/* SPDX-License-Identifier: Apache-2.0 */
/* Sender and receiver together: after every pass the destination's files are the source's. */
#include "base/bits.h"
#include "base/zero.h"
#include "rig.h"

#include <sys/socket.h>
#include <unistd.h>

static const uint64_t block_pages[] = { 700, 1, 513, 65 };
#define BLOCKS COUNT(block_pages)

static uint64_t seed;

static void open_rig(struct rig *r, unsigned channels, unsigned batch, int codec) {
    const struct rig_plan plan = { block_pages, BLOCKS, channels, batch, codec, false };
    rig_open(r, &plan);
}

/* What a guest may do to a page between two passes. */
static void change_page(struct rig *r, size_t block, uint64_t page) {
    static const uint8_t zeros[RAM_PAGE_SIZE];
    uint8_t data[RAM_PAGE_SIZE];
    switch (random_below(&seed, 8)) {
    case 0:
        rig_write(r, block, page, zeros);
        break;
    case 1:
        rig_write(r, block, page, NULL);
        break;
    case 2: /* written with what it held */
        bits_set(r->source.blocks[block].dirty, page);
        break;
    case 3:
        random_fill(&seed, data, sizeof(data));
        rig_write(r, block, page, data);
        break;
    default:
        random_text(&seed, data, sizeof(data));
        rig_write(r, block, page, data);
        break;
    }
}

/* Single pages and stretches. */
static void dirty_some(struct rig *r) {
    for (size_t i = 0; i < BLOCKS; i++) {
        uint64_t pages = block_pages[i];
        for (uint64_t n = pages / 20 + 1; n > 0; n--) {
            change_page(r, i, random_below(&seed, pages));
        }
        uint64_t first = random_below(&seed, pages), end = first + random_below(&seed, pages - first) / 3 + 1;
        for (uint64_t page = first; page < end; page++) {
            change_page(r, i, page);
        }
    }
}

static void all_dirty(struct rig *r) {
    struct error err = { 0 };
    for (size_t i = 0; i < BLOCKS; i++) {
        bits_set_range(r->source.blocks[i].dirty, 0, block_pages[i]);
        assert_ok(ram_skip_holes(&r->source.blocks[i], &err) == 0, &err);
    }
}

static void pass_and_compare(struct rig *r) {
    struct error err = { 0 };
    assert_ok(rig_pass(r, &err) == 0, &err);
    rig_assert_equal(r);
    assert_int_equal(ram_dirty_pages(&r->source), 0);
    /* zeros are holes there: the destination never uses more memory than the source */
    assert_true(ram_allocated(&r->destination) <= ram_allocated(&r->source));
}

static void passes(unsigned channels, unsigned batch, int codec) {
    struct rig r;
    seed = channels * 10000 + batch * 10 + (unsigned)(codec + 1);
    open_rig(&r, channels, batch, codec);
    dirty_some(&r);
    all_dirty(&r);
    pass_and_compare(&r);
    for (int i = 0; i < 5; i++) {
        dirty_some(&r);
        pass_and_compare(&r);
    }
    pass_and_compare(&r); /* nothing is dirty */
    struct ram_counters *n = ram_send_counters(r.send);
    assert_int_equal(atomic_load(&n->normal), ram_receive_pages(r.receive));
    uint64_t in = 0;
    for (unsigned id = 0; id < CODEC_COUNT; id++) {
        in += atomic_load(&n->codecs[id].in);
    }
    assert_int_equal(in, atomic_load(&n->normal) * RAM_PAGE_SIZE);
    if (codec == CODEC_NONE) {
        assert_int_equal(atomic_load(&n->codecs[CODEC_LZ4].batches), 0);
    }
    if (codec == CODEC_LZ4) {
        assert_true(atomic_load(&n->codecs[CODEC_LZ4].out) < atomic_load(&n->codecs[CODEC_LZ4].in));
    }
    rig_close(&r);
}

static void all_batch_sizes(int codec) {
    static const unsigned batches[] = { 1, 3, 128, 1024 };
    for (size_t i = 0; i < COUNT(batches); i++) {
        passes(1, batches[i], codec);
        passes(3, batches[i], codec);
    }
}

static void uncompressed(void **state) {
    (void)state;
    all_batch_sizes(CODEC_NONE);
}

static void compressed(void **state) {
    (void)state;
    all_batch_sizes(CODEC_LZ4);
}

static void chosen_per_batch(void **state) {
    (void)state;
    all_batch_sizes(COMPRESSION_AUTO);
}

static void fill_all(struct rig *r, int kind) {
    uint8_t data[RAM_PAGE_SIZE];
    for (size_t i = 0; i < BLOCKS; i++) {
        for (uint64_t page = 0; page < block_pages[i]; page++) {
            if (kind != 0) {
                random_text(&seed, data, sizeof(data));
            }
            rig_write(r, i, page, kind == 0 ? NULL : data);
        }
    }
}

/* Everything turns to content, to zeros and back: long runs of either kind. */
static void all_pages_to_and_fro(void **state) {
    (void)state;
    struct rig r;
    open_rig(&r, 2, 128, CODEC_LZ4);
    for (int i = 0; i < 4; i++) {
        fill_all(&r, 1);
        pass_and_compare(&r);
        assert_true(ram_allocated(&r.destination) > 0);
        fill_all(&r, 0);
        pass_and_compare(&r);
        assert_int_equal(ram_allocated(&r.destination), 0);
    }
    rig_close(&r);
}

/* Every second page a zero: as many runs of either kind as there can be. */
static void as_many_runs_as_possible(void **state) {
    (void)state;
    static const unsigned batches[] = { 1, 128, 1023, 1024 };
    for (size_t b = 0; b < COUNT(batches); b++) {
        struct rig r;
        open_rig(&r, 1, batches[b], CODEC_NONE);
        fill_all(&r, 1);
        pass_and_compare(&r);
        for (unsigned odd = 0; odd < 2; odd++) {
            fill_all(&r, 1);
            for (size_t i = 0; i < BLOCKS; i++) {
                for (uint64_t page = odd; page < block_pages[i]; page += 2) {
                    rig_write(&r, i, page, NULL);
                }
            }
            pass_and_compare(&r);
        }
        rig_close(&r);
    }
}

/* Zeros that the destination never had another word for are not sent. */
static void zeros_that_were_never_sent_cost_nothing(void **state) {
    (void)state;
    struct rig r;
    struct error err = { 0 };
    open_rig(&r, 1, 128, CODEC_NONE);
    fill_all(&r, 0);
    assert_ok(rig_pass(&r, &err) == 0, &err);
    assert_int_equal(atomic_load(&r.to[0].sent), 56); /* the end of the pass */
    assert_int_equal(atomic_load(&ram_send_counters(r.send)->duplicate), ram_pages(&r.source));
    assert_int_equal(atomic_load(&ram_send_counters(r.send)->normal), 0);
    rig_close(&r);
}

static void a_page_that_stays_zero_is_told_once(void **state) {
    (void)state;
    struct rig r;
    open_rig(&r, 1, 128, CODEC_NONE);
    fill_all(&r, 1);
    pass_and_compare(&r);
    fill_all(&r, 0);
    pass_and_compare(&r);
    uint64_t before = atomic_load(&r.to[0].sent);
    fill_all(&r, 0);
    pass_and_compare(&r);
    assert_int_equal(atomic_load(&r.to[0].sent) - before, 56);
    rig_close(&r);
}

/* More stretches of zeros than a frame holds, and no pages between them that would end a batch. */
static void more_zero_runs_than_a_frame_holds(void **state) {
    (void)state;
    static const uint64_t pages = 5000;
    static const unsigned batches[] = { 1, 1000, 1024 };
    uint8_t data[RAM_PAGE_SIZE];
    for (size_t b = 0; b < COUNT(batches); b++) {
        struct rig r;
        const struct rig_plan plan = { &pages, 1, 1, batches[b], CODEC_NONE, false };
        rig_open(&r, &plan);
        random_text(&seed, data, sizeof(data));
        for (uint64_t page = 0; page < pages; page++) {
            rig_write(&r, 0, page, data);
        }
        pass_and_compare(&r);
        for (uint64_t page = 0; page < pages; page += 2) {
            rig_write(&r, 0, page, NULL);
        }
        pass_and_compare(&r);
        rig_close(&r);
    }
}

static void corrupted(unsigned channels, int codec, const char *plan) {
    struct rig r;
    struct error err = { 0 };
    setenv("GODWIT_FAULT", plan, 1);
    open_rig(&r, channels, 16, codec);
    bool at_once = strchr(plan, '=') == NULL;
    if (!at_once) { /* from pass 2 on */
        fill_all(&r, 1);
        pass_and_compare(&r);
    }
    uint64_t before = atomic_load(&ram_send_counters(r.send)->normal);
    uint8_t(*old)[RAM_PAGE_SIZE] = malloc(700 * sizeof(*old));
    assert_non_null(old);
    assert_ok(ram_read(&r.destination.blocks[0], 0, 700, old[0], &err) == 0, &err);
    fill_all(&r, 1);
    assert_refused(rig_pass(&r, &err), &err, ERROR_CORRUPT, "damaged");
    assert_int_equal(ram_receive_pages(r.receive), before); /* nothing of it was placed */
    for (uint64_t page = 0; page < 700; page++) {
        assert_memory_equal(rig_placed(&r, 0, page), old[page], RAM_PAGE_SIZE);
    }
    rig_close(&r);
    free(old);
    unsetenv("GODWIT_FAULT");
}

static void a_corrupted_batch_is_refused(void **state) {
    (void)state;
    static const int codecs[] = { CODEC_NONE, CODEC_LZ4 };
    for (size_t i = 0; i < COUNT(codecs); i++) {
        corrupted(1, codecs[i], "corrupt-batch");
        corrupted(3, codecs[i], "corrupt-batch");
        corrupted(1, codecs[i], "corrupt-batch=2");
        corrupted(3, codecs[i], "corrupt-batch=2");
    }
}

static void a_broken_channel_is_reported(void **state) {
    (void)state;
    struct rig r;
    struct error err = { 0 };
    open_rig(&r, 3, 16, CODEC_NONE);
    fill_all(&r, 1);
    pass_and_compare(&r);
    fill_all(&r, 1);
    conn_break(&r.to[1]);
    assert_refused(rig_pass(&r, &err), &err, ERROR_LINK, NULL);
    rig_close(&r);
}

/* Its end lies between frames, so that nothing is broken: whoever waits for a pass must not wait for ever. */
static void a_channel_that_is_closed_early_is_reported(void **state) {
    (void)state;
    struct rig r;
    struct error err = { 0 };
    open_rig(&r, 2, 16, CODEC_NONE);
    pass_and_compare(&r);
    shutdown(r.to[1].fd, SHUT_WR);
    assert_refused(rig_wait_received(&r, r.pass + 1, &err), &err, ERROR_LINK, "channel 1");
    error_clear(&err);
    assert_ok(rig_wait_received(&r, r.pass, &err) == 0, &err);
    rig_close(&r);
}

/* The file turns out to be shorter than the guest's memory. */
static void an_unreadable_source_is_reported(void **state) {
    (void)state;
    struct rig r;
    struct error err = { 0 };
    open_rig(&r, 2, 16, CODEC_NONE);
    fill_all(&r, 1);
    assert_int_equal(ftruncate(backing_fd(r.source.blocks[2].backing), 100 * RAM_PAGE_SIZE), 0);
    assert_refused(rig_pass(&r, &err), &err, ERROR_SYSTEM, "shorter");
    rig_close(&r);
}

static void closing_without_a_pass(void **state) {
    (void)state;
    struct rig r;
    struct error err = { 0 };
    open_rig(&r, 3, 16, CODEC_NONE);
    assert_ok(ram_receive_poll(r.receive, 0, &err) == 1, &err);
    assert_ok(ram_receive_poll(r.receive, 1, &err) == 0, &err);
    rig_close(&r);
    ram_send_close(NULL);
    ram_receive_close(NULL);
}

static void zero_pages_are_told(void **state) {
    (void)state;
    uint8_t page[RAM_PAGE_SIZE] = { 0 };
    assert_true(is_zero(page, sizeof(page)));
    for (size_t i = 0; i < sizeof(page); i++) {
        page[i] = (uint8_t)(i % 8 == 7 ? 0x80 : 1);
        assert_false(is_zero(page, sizeof(page)));
        page[i] = 0;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uncompressed),
        cmocka_unit_test(compressed),
        cmocka_unit_test(chosen_per_batch),
        cmocka_unit_test(all_pages_to_and_fro),
        cmocka_unit_test(as_many_runs_as_possible),
        cmocka_unit_test(zeros_that_were_never_sent_cost_nothing),
        cmocka_unit_test(a_page_that_stays_zero_is_told_once),
        cmocka_unit_test(more_zero_runs_than_a_frame_holds),
        cmocka_unit_test(a_corrupted_batch_is_refused),
        cmocka_unit_test(a_broken_channel_is_reported),
        cmocka_unit_test(a_channel_that_is_closed_early_is_reported),
        cmocka_unit_test(an_unreadable_source_is_reported),
        cmocka_unit_test(closing_without_a_pass),
        cmocka_unit_test(zero_pages_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
