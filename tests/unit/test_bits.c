/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bits.h"
#include "support.h"

#define WORDS 5
#define BITS (UINT64_C(64) * WORDS)

/* The slow and plain way to do what bits.c does by words. */
static void set_one_by_one(uint64_t *map, uint64_t from, uint64_t to, bool value) {
    for (uint64_t i = from; i < to; i++) {
        if (value) {
            bits_set(map, i);
        } else {
            bits_clear(map, i);
        }
    }
}

/* Every [from, to) whose ends lie at a word's border or one beside it. */
static const uint64_t edges[] = { 0, 1, 2, 62, 63, 64, 65, 66, 127, 128, 129, 191, 192, 193, 255, 256, 257, 319, 320 };

static void ranges_touch_what_they_name(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(edges); i++) {
        for (size_t k = i; k < COUNT(edges); k++) {
            uint64_t seed = i * 100 + k, before[WORDS], got[WORDS], want[WORDS];
            random_fill(&seed, before, sizeof(before));
            memcpy(got, before, sizeof(got));
            memcpy(want, before, sizeof(want));
            bits_set_range(got, edges[i], edges[k]);
            set_one_by_one(want, edges[i], edges[k], true);
            assert_memory_equal(got, want, sizeof(want));
            memcpy(got, before, sizeof(got));
            memcpy(want, before, sizeof(want));
            bits_clear_range(got, edges[i], edges[k]);
            set_one_by_one(want, edges[i], edges[k], false);
            assert_memory_equal(got, want, sizeof(want));
        }
    }
}

static void an_empty_or_turned_range_changes_nothing(void **state) {
    (void)state;
    uint64_t map[2] = { 0x5555, 0xaaaa }, same[2] = { 0x5555, 0xaaaa };
    bits_set_range(map, 7, 7);
    bits_set_range(map, 64, 64);
    bits_set_range(map, 65, 3);
    bits_clear_range(map, 0, 0);
    bits_clear_range(map, 128, 128);
    bits_clear_range(map, 100, 1);
    assert_memory_equal(map, same, sizeof(map));
}

static void count_stops_at_the_last_bit(void **state) {
    (void)state;
    uint64_t map[WORDS];
    memset(map, 0xff, sizeof(map));
    for (uint64_t n = 0; n <= BITS; n++) {
        assert_int_equal(bits_count(map, n), n);
    }
    bits_clear(map, 63);
    assert_int_equal(bits_count(map, 63), 63);
    assert_int_equal(bits_count(map, 64), 63);
    assert_int_equal(bits_count(map, 65), 64);
}

static void next_finds_the_single_bit(void **state) {
    (void)state;
    for (uint64_t bit = 0; bit < BITS; bit++) {
        uint64_t one[WORDS] = { 0 }, none[WORDS];
        memset(none, 0xff, sizeof(none));
        bits_set(one, bit);
        bits_clear(none, bit);
        for (size_t k = 0; k < COUNT(edges); k++) {
            uint64_t from = edges[k];
            uint64_t want = bit >= from ? bit : BITS;
            assert_int_equal(bits_next_set(one, from, BITS), want);
            assert_int_equal(bits_next_clear(none, from, BITS), want);
            /* an end before, at and behind the bit */
            for (uint64_t to = bit > 0 ? bit - 1 : 0; to <= bit + 1; to++) {
                uint64_t found = bit >= from && bit < to ? bit : to;
                assert_int_equal(bits_next_set(one, from, to), found);
                assert_int_equal(bits_next_clear(none, from, to), found);
            }
        }
    }
}

static void next_does_not_read_behind_the_map(void **state) {
    (void)state;
    uint64_t *map = calloc(1, sizeof(*map)); /* AddressSanitizer watches its end */
    assert_non_null(map);
    assert_int_equal(bits_next_set(map, 0, 64), 64);
    assert_int_equal(bits_next_set(map, 64, 64), 64);
    bits_set_range(map, 0, 64);
    assert_int_equal(bits_next_clear(map, 0, 64), 64);
    assert_int_equal(bits_count(map, 64), 64);
    bits_clear_range(map, 0, 64);
    assert_int_equal(*map, 0);
    free(map);
}

static void words_for_bits(void **state) {
    (void)state;
    assert_int_equal(bits_words(0), 0);
    assert_int_equal(bits_words(1), 1);
    assert_int_equal(bits_words(63), 1);
    assert_int_equal(bits_words(64), 1);
    assert_int_equal(bits_words(65), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_touch_what_they_name),       cmocka_unit_test(an_empty_or_turned_range_changes_nothing),
        cmocka_unit_test(count_stops_at_the_last_bit),       cmocka_unit_test(next_finds_the_single_bit),
        cmocka_unit_test(next_does_not_read_behind_the_map), cmocka_unit_test(words_for_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
