/* SPDX-License-Identifier: Apache-2.0 */
/* The receiver against a sender that is this test: frames written by hand, good ones and others. */
#include "parcel.h"

#include <sys/socket.h>
#include <unistd.h>

#define PAGES 100u
#define BATCH 4u

static struct rig rig;

static void open_receiver(unsigned channels, const char *fault) {
    static const uint64_t block_pages[] = { PAGES, 7 };
    const struct rig_plan plan = { block_pages, 2, channels, BATCH, CODEC_NONE, true };
    if (fault != NULL) {
        setenv("GODWIT_FAULT", fault, 1);
    }
    rig_open(&rig, &plan);
}

static void close_receiver(void) {
    rig_close(&rig);
    unsetenv("GODWIT_FAULT");
}

static void wait_pass(uint32_t pass) {
    struct error err = { 0 };
    assert_ok(rig_wait_received(&rig, pass, &err) == 0, &err);
}

static void expect_failure(enum error_class class, const char *text) {
    struct error err = { 0 };
    assert_refused(rig_wait_received(&rig, 1000, &err), &err, class, text);
}

/* --- an older version never lands after a newer one --- */

#define OLD 1
#define NEW 2

/* Channel 1 has the old version of page 5 in pass 1, and its payload is late. Channel 0 has the new one in pass 2. */
static struct parcel post_old_and_new(void) {
    struct parcel older = parcel_pages(1, 5, 1, OLD), newer = parcel_pages(2, 5, 1, NEW);
    parcel_post_end(&rig, 0, 1, 0);
    parcel_post_head(&rig, 1, &older);
    parcel_post(&rig, 0, &newer);
    parcel_post_end(&rig, 0, 2, 1);
    return older;
}

static void post_rest(const struct parcel *older) {
    parcel_post_payload(&rig, 1, older);
    parcel_post_end(&rig, 1, 1, 1);
    parcel_post_end(&rig, 1, 2, 0);
    wait_pass(2);
}

static void a_late_old_version_does_not_win(void **state) {
    (void)state;
    open_receiver(2, NULL);
    struct parcel older = post_old_and_new();
    clock_sleep(20 * CLOCK_MS);
    assert_int_equal(rig_placed(&rig, 0, 5)[0], 0); /* the new one waits for the old one */
    post_rest(&older);
    assert_int_equal(rig_placed(&rig, 0, 5)[0], NEW);
    close_receiver();
}

/* The same without the order: proves that the test above can fail. */
static void without_order_the_old_version_wins(void **state) {
    (void)state;
    open_receiver(2, "no-order");
    struct parcel older = post_old_and_new();
    WAIT_FOR(rig_placed(&rig, 0, 5)[0] == NEW);
    post_rest(&older);
    assert_int_equal(rig_placed(&rig, 0, 5)[0], OLD);
    close_receiver();
}

/* What page 5 is in the end when the decoder of channel 1 takes `fault` says how long. */
static int slow_decoder(const char *fault) {
    open_receiver(2, fault);
    struct parcel older = parcel_pages(1, 5, 1, OLD), newer = parcel_pages(2, 5, 1, NEW);
    parcel_post(&rig, 1, &older);
    parcel_post_end(&rig, 1, 1, 1);
    parcel_post_end(&rig, 1, 2, 0);
    parcel_post_end(&rig, 0, 1, 0);
    parcel_post(&rig, 0, &newer);
    parcel_post_end(&rig, 0, 2, 1);
    wait_pass(2);
    int value = rig_placed(&rig, 0, 5)[0];
    close_receiver();
    return value;
}

static void a_slow_decoder_does_not_bring_back_the_past(void **state) {
    (void)state;
    assert_int_equal(slow_decoder("decoder-delay@1=100"), NEW);
    assert_int_equal(slow_decoder("decoder-delay@0=50,decoder-delay@1=100"), NEW);
}

static void a_slow_decoder_without_order_does(void **state) {
    (void)state;
    int value = slow_decoder("no-order,decoder-delay@1=300");
    if (value != OLD) { /* a very busy machine: channel 0 took longer than the delay */
        value = slow_decoder("no-order,decoder-delay@1=8000");
    }
    assert_int_equal(value, OLD);
}

/* What page 5 is in the end when one channel brings both versions and the first one takes long to decode. */
static int one_channel(const char *fault) {
    open_receiver(1, fault);
    struct parcel older = parcel_pages(1, 5, 1, OLD), newer = parcel_pages(2, 5, 1, NEW);
    parcel_post(&rig, 0, &older);
    parcel_post_end(&rig, 0, 1, 1);
    parcel_post(&rig, 0, &newer);
    parcel_post_end(&rig, 0, 2, 1);
    wait_pass(2);
    WAIT_FOR(ram_receive_pages(rig.receive) == 2);
    int value = rig_placed(&rig, 0, 5)[0];
    close_receiver();
    return value;
}

/* What is read one after the other on a channel is decoded side by side: the end of a pass waits for all of it. */
static void the_end_of_a_pass_waits_for_decoding(void **state) {
    (void)state;
    assert_int_equal(one_channel("decoder-delay@0=100,decoder-delay-pass=1"), NEW);
}

static void without_that_wait_the_old_version_wins(void **state) {
    (void)state;
    assert_int_equal(one_channel("decoder-delay@0=500,decoder-delay-pass=1,early-pass-end"), OLD);
}

static void zeros_keep_the_order_too(void **state) {
    (void)state;
    open_receiver(2, NULL);
    struct parcel older = parcel_pages(1, 5, 1, OLD);
    struct parcel zero = parcel_zero(2, 5, 1);
    parcel_post_end(&rig, 0, 1, 0);
    parcel_post_head(&rig, 1, &older);
    parcel_post_head(&rig, 0, &zero);
    parcel_post_end(&rig, 0, 2, 0);
    post_rest(&older);
    assert_int_equal(rig_placed(&rig, 0, 5)[0], 0);
    close_receiver();
}

/* --- nothing is placed that is not as it left --- */

static void refused(const struct parcel *p, enum error_class class, const char *text) {
    open_receiver(1, NULL);
    parcel_post(&rig, 0, p);
    expect_failure(class, text);
    for (uint64_t page = 0; page < PAGES; page++) {
        assert_int_equal(rig_placed(&rig, 0, page)[0], 0);
    }
    assert_int_equal(ram_receive_pages(rig.receive), 0);
    close_receiver();
}

static void any_changed_bit_of_the_pages(void **state) {
    (void)state;
    for (size_t bit = 0; bit < 2 * RAM_PAGE_SIZE * 8; bit += 2477) {
        struct parcel p = parcel_pages(1, 10, 2, 0x33);
        p.payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
        refused(&p, ERROR_CORRUPT, "digest");
    }
    struct parcel p = parcel_pages(1, 10, 2, 0x33);
    p.f.digest[1] ^= 1;
    refused(&p, ERROR_CORRUPT, "digest");
}

static void codecs_that_we_do_not_have(void **state) {
    (void)state;
    static const uint8_t ids[] = { CODEC_COUNT, 255 };
    for (size_t i = 0; i < COUNT(ids); i++) {
        struct parcel p = parcel_pages(1, 10, 2, 0x33);
        p.f.codec = ids[i];
        refused(&p, ERROR_PEER, "unknown codec");
    }
}

static void sizes_that_do_not_fit(void **state) {
    (void)state;
    struct parcel p = parcel_pages(1, 10, 2, 0x33);
    p.f.payload -= 1; /* raw pages are whole pages */
    refused(&p, ERROR_PEER, NULL);
    p.f.payload += 2;
    refused(&p, ERROR_PEER, NULL);
    p = parcel_pages(1, 10, BATCH, 0x33);
    p.f.pages = p.run.count = BATCH + 1;
    refused(&p, ERROR_CORRUPT, "pages 5");
    p = parcel_pages(1, 10, BATCH, 0x33);
    p.f.payload = BATCH * RAM_PAGE_SIZE + 1;
    refused(&p, ERROR_CORRUPT, "payload");
    p = parcel_pages(1, PAGES - 1, 2, 0x33);
    refused(&p, ERROR_CORRUPT, "the page 99");
}

static void what_does_not_decode(void **state) {
    (void)state;
    struct parcel p = parcel_lz4(1, 10, 3, 0x33);
    p.f.pages = p.run.count = 2; /* it would be more than announced */
    refused(&p, ERROR_CORRUPT, "does not decode as lz4");
    p.f.pages = p.run.count = 4; /* less */
    refused(&p, ERROR_CORRUPT, "does not decode as lz4");
    p = parcel_lz4(1, 10, 3, 0x33);
    p.f.payload -= 1;
    refused(&p, ERROR_CORRUPT, "does not decode as lz4");
    p = parcel_lz4(1, 10, 3, 0x33);
    memset(p.payload, 0xff, p.f.payload);
    refused(&p, ERROR_CORRUPT, "does not decode as lz4");
}

static void what_decodes_is_placed(void **state) {
    (void)state;
    open_receiver(1, NULL);
    struct parcel p = parcel_lz4(1, 10, 3, 0x33), raw = parcel_pages(1, 2, 4, 0x44);
    parcel_post(&rig, 0, &p);
    parcel_post(&rig, 0, &raw);
    parcel_post_end(&rig, 0, 1, 7);
    wait_pass(1);
    for (uint64_t page = 0; page < PAGES; page++) {
        int want = page >= 10 && page < 13 ? 0x33 : page >= 2 && page < 6 ? 0x44 : 0;
        assert_int_equal(rig_placed(&rig, 0, page)[RAM_PAGE_SIZE - 1], want);
    }
    assert_int_equal(ram_receive_pages(rig.receive), 7);
    close_receiver();
}

/* --- a sender that loses count --- */

static void the_end_counts_the_pages(void **state) {
    (void)state;
    static const uint32_t wrong[] = { 0, 1, 3, UINT32_MAX };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        open_receiver(1, NULL);
        struct parcel p = parcel_pages(1, 10, 2, 0x33);
        parcel_post(&rig, 0, &p);
        parcel_post_end(&rig, 0, 1, wrong[i]);
        expect_failure(ERROR_PEER, "brought 2 pages");
        close_receiver();
    }
}

static void passes_come_one_by_one(void **state) {
    (void)state;
    static const uint32_t wrong[] = { 0, 1, 3 };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        for (int kind = 0; kind < 2; kind++) {
            open_receiver(1, NULL);
            parcel_post_end(&rig, 0, 1, 0);
            struct parcel p = parcel_pages(wrong[i], 10, 2, 0x33);
            if (kind == 0) {
                parcel_post(&rig, 0, &p);
            } else {
                parcel_post_end(&rig, 0, wrong[i], 0);
            }
            expect_failure(ERROR_PEER, "after pass 1");
            assert_int_equal(rig_placed(&rig, 0, 10)[0], 0);
            close_receiver();
        }
    }
}

/* --- a sender that goes away --- */

static void an_end_in_the_middle_is_a_failure(void **state) {
    (void)state;
    struct parcel p = parcel_pages(1, 10, 2, 0x33);
    uint8_t bytes[FRAME_HEADER_SIZE + FRAME_RUN_SIZE + 2 * RAM_PAGE_SIZE];
    size_t size = frame_encode(&p.f, &p.run, bytes);
    memcpy(bytes + size, p.payload, p.f.payload);
    size += p.f.payload;
    static const size_t cuts[] = {
        1,    FRAME_HEADER_SIZE - 1, FRAME_HEADER_SIZE, FRAME_HEADER_SIZE + 1, FRAME_HEADER_SIZE + FRAME_RUN_SIZE,
        1000, sizeof(bytes) - 1
    };
    for (size_t i = 0; i < COUNT(cuts); i++) {
        struct error err = { 0 };
        open_receiver(2, NULL);
        assert_ok(conn_write(&rig.to[0], bytes, cuts[i], &err) == 0, &err);
        shutdown(rig.to[0].fd, SHUT_WR);
        expect_failure(ERROR_LINK, "closed the connection");
        assert_int_equal(rig_placed(&rig, 0, 10)[0], 0);
        close_receiver();
    }
}

static void an_end_between_frames_is_none(void **state) {
    (void)state;
    open_receiver(2, NULL);
    struct parcel p = parcel_pages(1, 10, 2, 0x33);
    parcel_post(&rig, 0, &p);
    parcel_post_end(&rig, 0, 1, 2);
    parcel_post_end(&rig, 1, 1, 0);
    shutdown(rig.to[0].fd, SHUT_WR);
    shutdown(rig.to[1].fd, SHUT_WR);
    wait_pass(1);
    assert_int_equal(rig_placed(&rig, 0, 11)[0], 0x33);
    close_receiver();
}

/* When one channel fails the others do not place what they still hold. */
static void one_failure_stops_all(void **state) {
    (void)state;
    open_receiver(2, NULL);
    struct parcel p = parcel_pages(1, 10, 2, 0x33), bad = parcel_pages(1, 20, 2, 0x44);
    bad.payload[0] ^= 1;
    parcel_post(&rig, 1, &bad);
    expect_failure(ERROR_CORRUPT, "digest");
    parcel_post(&rig, 0, &p);
    WAIT_FOR(atomic_load(&rig.from[0].received) >= FRAME_HEADER_SIZE + FRAME_RUN_SIZE);
    clock_sleep(20 * CLOCK_MS);
    assert_int_equal(atomic_load(&rig.from[0].received), FRAME_HEADER_SIZE + FRAME_RUN_SIZE); /* not even read */
    assert_int_equal(rig_placed(&rig, 0, 10)[0], 0);
    close_receiver();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_old_version_does_not_win),
        cmocka_unit_test(without_order_the_old_version_wins),
        cmocka_unit_test(a_slow_decoder_does_not_bring_back_the_past),
        cmocka_unit_test(a_slow_decoder_without_order_does),
        cmocka_unit_test(the_end_of_a_pass_waits_for_decoding),
        cmocka_unit_test(without_that_wait_the_old_version_wins),
        cmocka_unit_test(zeros_keep_the_order_too),
        cmocka_unit_test(any_changed_bit_of_the_pages),
        cmocka_unit_test(codecs_that_we_do_not_have),
        cmocka_unit_test(sizes_that_do_not_fit),
        cmocka_unit_test(what_does_not_decode),
        cmocka_unit_test(what_decodes_is_placed),
        cmocka_unit_test(the_end_counts_the_pages),
        cmocka_unit_test(passes_come_one_by_one),
        cmocka_unit_test(an_end_in_the_middle_is_a_failure),
        cmocka_unit_test(an_end_between_frames_is_none),
        cmocka_unit_test(one_failure_stops_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
