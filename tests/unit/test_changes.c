/* SPDX-License-Identifier: Apache-2.0 */
/* The receiver and pages that come as changes, and batches that an accelerator at the source has spoiled: frames
 * written by hand. */
#include "parcel.h"

#define PAGES 100u
#define BATCH 4u

static struct rig rig;
static uint8_t before[PARCEL_PAGES * RAM_PAGE_SIZE], now[PARCEL_PAGES * RAM_PAGE_SIZE];

static void open_receiver(unsigned channels) {
    static const uint64_t block_pages[] = { PAGES, 7 };
    const struct rig_plan plan = { block_pages, 2, channels, BATCH, CODEC_NONE, .no_sender = true };
    rig_open(&rig, &plan);
    memset(before, 0x11, sizeof(before));
    memcpy(now, before, sizeof(now));
    for (size_t page = 0; page < PARCEL_PAGES; page++) {
        now[page * RAM_PAGE_SIZE + 100 * page] = (uint8_t)(page + 1);
    }
}

static void wait_pass(uint32_t pass) {
    struct error err = { 0 };
    assert_ok(rig_wait_received(&rig, pass, &err) == 0, &err);
}

/* Pass 1 on channel 0: pages [10, 14) are 0x11. */
static void place_before(void) {
    struct parcel p = parcel_pages(1, 10, 4, 0x11);
    parcel_post(&rig, 0, &p);
    parcel_post_end(&rig, 0, 1, 4);
    wait_pass(1);
}

static void expect_pages(uint64_t first, uint32_t count, const uint8_t *bytes) {
    for (uint32_t i = 0; i < count; i++) {
        assert_memory_equal(rig_placed(&rig, 0, first + i), bytes + (size_t)i * RAM_PAGE_SIZE, RAM_PAGE_SIZE);
    }
}

static void changes_are_applied(void **state) {
    (void)state;
    open_receiver(1);
    place_before();
    struct parcel p = parcel_changes(2, 10, 4, before, now);
    assert_true(p.f.payload < 40);
    parcel_post(&rig, 0, &p);
    parcel_post_end(&rig, 0, 2, 4);
    wait_pass(2);
    expect_pages(10, 4, now);
    struct parcel back = parcel_changes(3, 11, 2, now + RAM_PAGE_SIZE, before);
    parcel_post(&rig, 0, &back);
    parcel_post_end(&rig, 0, 3, 2);
    wait_pass(3);
    expect_pages(11, 2, before);
    assert_int_equal(ram_receive_pages(rig.receive), 10);
    assert_null(ram_receive_take_rejection(rig.receive));
    rig_close(&rig);
}

/* A change of a page that the receiver holds as a hole: of zeros. */
static void changes_of_zeros(void **state) {
    (void)state;
    open_receiver(1);
    memset(before, 0, sizeof(before));
    memset(now, 0, sizeof(now));
    now[77] = now[RAM_PAGE_SIZE] = 1;
    struct parcel p = parcel_changes(1, 50, 2, before, now);
    parcel_post(&rig, 0, &p);
    parcel_post_end(&rig, 0, 1, 2);
    wait_pass(1);
    expect_pages(50, 2, now);
    rig_close(&rig);
}

static void refused(struct parcel *p, enum error_class class, const char *text) {
    struct error err = { 0 };
    open_receiver(1);
    place_before();
    parcel_post(&rig, 0, p);
    assert_refused(rig_wait_received(&rig, 1000, &err), &err, class, text);
    expect_pages(10, 4, before); /* and nothing of it is in place */
    rig_close(&rig);
}

static void changes_that_make_no_sense(void **state) {
    (void)state;
    open_receiver(1);
    rig_close(&rig);
    struct parcel good = parcel_changes(2, 10, 4, before, now), p = good;
    p.payload[2] ^= 1; /* another byte is put in */
    refused(&p, ERROR_CORRUPT, "digest");
    p = good;
    p.f.payload--; /* the last one has no end */
    refused(&p, ERROR_CORRUPT, "makes no sense");
    p = good;
    p.payload[p.f.payload++] = 0; /* something behind the last one */
    refused(&p, ERROR_CORRUPT, "digest");
    p = good;
    p.f.pages = p.run.count = 3;
    refused(&p, ERROR_CORRUPT, "digest");
    p = good;
    p.run.first = 11; /* the last of these four pages is zeros there, not what it is a change of */
    refused(&p, ERROR_CORRUPT, "digest");
    p = good;
    p.f.digest[0] ^= 1;
    refused(&p, ERROR_CORRUPT, "digest");
    p = good;
    memset(p.payload, 0xff, p.f.payload);
    refused(&p, ERROR_CORRUPT, "makes no sense");
    p = good;
    p.f.codec = CODEC_LZ4;
    refused(&p, ERROR_PEER, "codec");
    p = good;
    p.run.first = PAGES - 3;
    refused(&p, ERROR_CORRUPT, "the page 97");
    p = good;
    p.f.device = 3; /* changes are never a device's: this word is no way to be let off */
    p.f.digest[0] ^= 1;
    refused(&p, ERROR_CORRUPT, "digest");
}

/* --- spoiled by a device of the source --- */

static struct parcel spoiled(uint32_t pass, uint64_t first, uint32_t count, bool undecodable) {
    struct parcel p = undecodable ? parcel_lz4(pass, first, count, 0x22) : parcel_pages(pass, first, count, 0x22);
    memset(p.payload, 0xff, 100);
    p.f.device = 2;
    return p;
}

static void expect_rejection(uint8_t device, uint64_t first, uint32_t count) {
    struct ram_rejection *n = ram_receive_take_rejection(rig.receive);
    assert_non_null(n);
    assert_int_equal(n->block, 0);
    assert_int_equal(n->device, device);
    assert_int_equal(n->runs, 1);
    assert_int_equal(n->run[0].first, first);
    assert_int_equal(n->run[0].count, count);
    free(n);
}

/* Rejected, what builds upon it is rejected too, and at last it comes in full. */
static void a_spoiled_batch_is_made_good(void **state) {
    (void)state;
    for (int undecodable = 0; undecodable < 2; undecodable++) {
        open_receiver(1);
        place_before();
        struct parcel p = spoiled(2, 12, 4, undecodable != 0);
        parcel_post(&rig, 0, &p);
        parcel_post_end(&rig, 0, 2, 4);
        wait_pass(2);
        expect_rejection(2, 12, 4); /* it is there before the pass counts as placed */
        assert_null(ram_receive_take_rejection(rig.receive));
        assert_int_equal(ram_receive_rejected(rig.receive), 4);
        expect_pages(10, 4, before);

        struct parcel change = parcel_changes(3, 11, 2, before, now); /* page 11 is fine, page 12 is not */
        parcel_post(&rig, 0, &change);
        parcel_post_end(&rig, 0, 3, 2);
        wait_pass(3);
        expect_rejection(0, 11, 2);
        assert_int_equal(ram_receive_rejected(rig.receive), 5);
        expect_pages(10, 4, before);

        struct parcel full = parcel_pages(4, 11, 4, 0x44), zero = parcel_zero(4, 15, 1);
        parcel_post(&rig, 0, &full);
        parcel_post(&rig, 0, &zero);
        parcel_post_end(&rig, 0, 4, 4);
        wait_pass(4);
        assert_int_equal(ram_receive_rejected(rig.receive), 0);
        assert_null(ram_receive_take_rejection(rig.receive));
        memset(now, 0x44, sizeof(now));
        expect_pages(11, 4, now);
        assert_int_equal(rig_placed(&rig, 0, 15)[0], 0);

        memcpy(before, now, sizeof(before)); /* and changes count again */
        before[5] = 1;
        change = parcel_changes(5, 12, 1, now, before);
        parcel_post(&rig, 0, &change);
        parcel_post_end(&rig, 0, 5, 1);
        wait_pass(5);
        expect_pages(12, 1, before);
        rig_close(&rig);
    }
}

/* The same page spoiled twice counts once, and a whole one of the device's is as good as any. */
static void spoiled_again(void **state) {
    (void)state;
    open_receiver(1);
    for (uint32_t pass = 1; pass < 4; pass++) {
        struct parcel p = spoiled(pass, 20, 3, false);
        parcel_post(&rig, 0, &p);
        parcel_post_end(&rig, 0, pass, 3);
        wait_pass(pass);
        expect_rejection(2, 20, 3);
        assert_int_equal(ram_receive_rejected(rig.receive), 3);
    }
    struct parcel whole = parcel_pages(4, 20, 3, 0x55);
    whole.f.device = 2;
    parcel_post(&rig, 0, &whole);
    parcel_post_end(&rig, 0, 4, 3);
    wait_pass(4);
    assert_int_equal(ram_receive_rejected(rig.receive), 0);
    assert_int_equal(rig_placed(&rig, 0, 22)[4095], 0x55);
    rig_close(&rig);
}

/* A device is no excuse for a frame that cannot be. */
static void a_device_does_not_excuse_everything(void **state) {
    (void)state;
    open_receiver(1);
    rig_close(&rig);
    struct parcel p = spoiled(2, 12, 2, false);
    p.f.codec = CODEC_COUNT;
    refused(&p, ERROR_PEER, "unknown codec");
    p = spoiled(2, 12, 2, false);
    p.f.pass = 3;
    refused(&p, ERROR_PEER, "after pass 1");
    p = spoiled(2, 12, 2, false);
    p.f.payload--;
    refused(&p, ERROR_PEER, NULL);
}

/* Rejections that nobody took are freed with the receiver. */
static void rejections_left_behind(void **state) {
    (void)state;
    open_receiver(2);
    for (unsigned i = 0; i < 20; i++) {
        struct parcel p = spoiled(1, i * 4, 4, false);
        parcel_post(&rig, i % 2, &p);
    }
    parcel_post_end(&rig, 0, 1, 40);
    parcel_post_end(&rig, 1, 1, 40);
    wait_pass(1);
    assert_int_equal(ram_receive_rejected(rig.receive), 80);
    assert_int_equal(ram_receive_pages(rig.receive), 0);
    rig_close(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_are_applied),
        cmocka_unit_test(changes_of_zeros),
        cmocka_unit_test(changes_that_make_no_sense),
        cmocka_unit_test(a_spoiled_batch_is_made_good),
        cmocka_unit_test(spoiled_again),
        cmocka_unit_test(a_device_does_not_excuse_everything),
        cmocka_unit_test(rejections_left_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
