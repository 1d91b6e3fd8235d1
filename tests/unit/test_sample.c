/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/block.h"
#include "ram/sample.h"
#include "support.h"

#define SIZE ((size_t)1 << 20)

static uint8_t bytes[1 << 20];
static uint64_t seed = 5;

static void noise_is_noise(void **state) {
    (void)state;
    static const size_t sizes[] = { 16, 17, 31, 64, 128, 256 }; /* pages */
    for (unsigned round = 0; round < 50; round++) {
        random_fill(&seed, bytes, SIZE);
        for (size_t i = 0; i < COUNT(sizes); i++) {
            assert_true(sample_is_noise(bytes, sizes[i] * RAM_PAGE_SIZE));
        }
    }
}

static void too_little_tells_nothing(void **state) {
    (void)state;
    random_fill(&seed, bytes, SIZE);
    for (size_t size = 0; size < (size_t)16 * RAM_PAGE_SIZE; size += 512) {
        assert_false(sample_is_noise(bytes, size));
    }
}

static void what_codecs_can_use_is_none(void **state) {
    (void)state;
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    memset(bytes, 0, SIZE);
    assert_false(sample_is_noise(bytes, SIZE));
    random_text(&seed, bytes, SIZE);
    assert_false(sample_is_noise(bytes, SIZE));
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = (uint8_t)alphabet[random_below(&seed, 64)];
    }
    assert_false(sample_is_noise(bytes, SIZE));
    for (size_t i = 0; i < SIZE; i += 8) { /* pointers into 1 GiB */
        uint64_t pointer = UINT64_C(0xffff888000000000) + random_below(&seed, UINT64_C(1) << 30);
        memcpy(bytes + i, &pointer, sizeof(pointer));
    }
    assert_false(sample_is_noise(bytes, SIZE));
    random_fill(&seed, bytes, SIZE); /* one page in four is a text */
    for (size_t page = 0; page < SIZE; page += (size_t)4 * RAM_PAGE_SIZE) {
        memset(bytes + page, 'x', RAM_PAGE_SIZE);
    }
    assert_false(sample_is_noise(bytes, SIZE));
}

/* Noise but for one field at the same place of every page, wherever that is: not taken for a text, for a codec could
 * make nothing of it. */
static void one_field_does_not_make_a_text(void **state) {
    (void)state;
    for (size_t at = 0; at < RAM_PAGE_SIZE; at += 64) {
        random_fill(&seed, bytes, SIZE);
        for (size_t page = 0; page < SIZE; page += RAM_PAGE_SIZE) {
            memset(bytes + page + at, 0, 64);
        }
        assert_true(sample_is_noise(bytes, SIZE));
    }
}

/* Reads nothing behind the end: what is not ours is poisoned under AddressSanitizer, and elsewhere is at a page's end.
 */
static void it_stays_inside(void **state) {
    (void)state;
    for (size_t size = 0; size < (size_t)70 * RAM_PAGE_SIZE; size += 1111) {
        uint8_t *exact = malloc(size + 1);
        assert_non_null(exact);
        random_fill(&seed, exact, size);
        sample_is_noise(exact, size);
        free(exact);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(noise_is_noise),
        cmocka_unit_test(too_little_tells_nothing),
        cmocka_unit_test(what_codecs_can_use_is_none),
        cmocka_unit_test(one_field_does_not_make_a_text),
        cmocka_unit_test(it_stays_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
