/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/delta.h"
#include "support.h"

#define PAGE 4096u
#define ROOM (DELTA_PAGE_MAX + 8)

static const size_t sizes[] = { 64, 128, 192, PAGE, PAGE + 64, 16384, 65472, DELTA_PAGE_MAX };
static uint8_t old[DELTA_PAGE_MAX], now[DELTA_PAGE_MAX];

/* Everything on the heap in its exact size, so that AddressSanitizer sees a byte too many. */
static uint8_t *heap(const uint8_t *from, size_t size) {
    uint8_t *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, from, size);
    return copy;
}

/* Encodes old to now and patches with the result, which must fit into what it said that it takes, and into nothing
 * less. Returns its size. */
static size_t round_trip(size_t size) {
    uint8_t *from = heap(old, size), *to = heap(now, size), *out = malloc(ROOM);
    assert_non_null(out);
    size_t n = delta_encode(from, to, size, out, ROOM);
    assert_in_range(n, 1, size + 4);
    uint8_t *exact = malloc(n), *less = malloc(n), *delta = heap(out, n);
    assert_non_null(exact);
    assert_non_null(less);
    assert_int_equal(delta_encode(from, to, size, exact, n), n);
    assert_memory_equal(exact, delta, n);
    assert_int_equal(delta_encode(from, to, size, less, n - 1), 0);
    const uint8_t *at = delta;
    assert_int_equal(delta_decode(&at, delta + n, from, size), 0);
    assert_ptr_equal(at, delta + n);
    assert_memory_equal(from, to, size);
    free(from);
    free(to);
    free(out);
    free(exact);
    free(less);
    free(delta);
    return n;
}

static void start(uint64_t seed, size_t size) {
    random_fill(&seed, old, size);
    memcpy(now, old, size);
}

static void equal_pages_are_one_byte(void **state) {
    (void)state;
    for (size_t s = 0; s < COUNT(sizes); s++) {
        start(s, sizes[s]);
        assert_int_equal(round_trip(sizes[s]), 1);
    }
}

static void one_byte_anywhere(void **state) {
    (void)state;
    for (size_t at = 0; at < PAGE; at++) {
        start(at, PAGE);
        now[at] ^= 0x40;
        size_t n = round_trip(PAGE);
        /* length, skip, the byte, and the end unless the page's end is it */
        assert_int_equal(n, 1 + (at < 128 ? 1u : 2u) + 1 + (at < PAGE - 1 ? 1 : 0));
    }
}

static void any_length_anywhere(void **state) {
    (void)state;
    uint64_t seed = 9;
    for (size_t length = 1; length <= PAGE; length += length < 40 ? 1 : 97) {
        for (int i = 0; i < 8; i++) {
            size_t at = i == 0 ? 0 : i == 1 ? PAGE - length : random_below(&seed, PAGE - length + 1);
            start(length, PAGE);
            for (size_t b = at; b < at + length; b++) {
                now[b] ^= 0x81;
            }
            assert_true(round_trip(PAGE) <= length + 5);
        }
    }
}

static void all_of_it(void **state) {
    (void)state;
    for (size_t s = 0; s < COUNT(sizes); s++) {
        start(s, sizes[s]);
        for (size_t i = 0; i < sizes[s]; i++) {
            now[i] ^= 1;
        }
        assert_true(round_trip(sizes[s]) > sizes[s]);
    }
}

/* Every pattern of equal and differing bytes at the beginning, across a word, and at the end. */
static void every_pattern(void **state) {
    (void)state;
    static const size_t places[] = { 0, 27, 128 - 12 };
    for (size_t p = 0; p < COUNT(places); p++) {
        for (unsigned pattern = 0; pattern < 1u << 12; pattern++) {
            start(p, 128);
            for (size_t i = 0; i < 12; i++) {
                now[places[p] + i] ^= (uint8_t)(pattern >> i & 1);
            }
            size_t n = round_trip(128);
            assert_in_range(n, 1, 12 + 3);
        }
    }
}

static void gaps_of_a_few_bytes_do_not_end_a_run(void **state) {
    (void)state;
    for (size_t gap = 1; gap < 12; gap++) {
        start(gap, PAGE);
        now[1000] ^= 1;
        now[1001 + gap] ^= 1;
        assert_int_equal(round_trip(PAGE), gap < 4 ? 3 + 2 + gap + 1 : 4 + 3 + 1);
    }
}

/* What guests do: words here and there. */
static void random_changes(void **state) {
    (void)state;
    uint64_t seed = 77;
    for (int round = 0; round < 4000; round++) {
        size_t size = sizes[random_below(&seed, COUNT(sizes))];
        size = round % 16 != 0 && size > PAGE ? PAGE : size;
        start((uint64_t)round, size);
        for (uint64_t changes = random_below(&seed, 60); changes > 0; changes--) {
            size_t at = random_below(&seed, size), length = 1 + random_below(&seed, 24);
            for (size_t i = at; i < at + length && i < size; i++) {
                now[i] = (uint8_t)random_next(&seed);
            }
        }
        round_trip(size);
    }
}

static void any_capacity_stays_inside(void **state) {
    (void)state;
    start(4, PAGE);
    for (size_t i = 0; i < PAGE; i += 100) {
        memset(now + i, 0x33, i % 40);
    }
    size_t n = round_trip(PAGE);
    for (size_t capacity = 0; capacity < n; capacity++) {
        uint8_t *out = malloc(capacity > 0 ? capacity : 1);
        assert_non_null(out);
        assert_int_equal(delta_encode(old, now, PAGE, out, capacity), 0);
        free(out);
    }
}

static void deltas_follow_one_another(void **state) {
    (void)state;
    enum { PAGES = 16 };
    static uint8_t pages[PAGES][PAGE], wanted[PAGES][PAGE], stream[2 * PAGES * PAGE];
    size_t used = 0;
    uint64_t seed = 1;
    for (size_t p = 0; p < PAGES; p++) {
        random_fill(&seed, pages[p], PAGE);
        memcpy(wanted[p], pages[p], PAGE);
        memset(wanted[p] + p * 256, 0x77, p % 3 * 256); /* nothing, some, or up to the end */
        used += delta_encode(pages[p], wanted[p], PAGE, stream + used, sizeof(stream) - used);
    }
    const uint8_t *at = stream;
    for (size_t p = 0; p < PAGES; p++) {
        assert_int_equal(delta_decode(&at, stream + used, pages[p], PAGE), 0);
    }
    assert_ptr_equal(at, stream + used);
    assert_memory_equal(pages, wanted, sizeof(pages));
}

/* Whatever is malformed: nothing is taken, and nothing outside the page is written. */
static void assert_malformed(const void *bytes, size_t n, size_t size) {
    uint8_t *delta = heap(bytes, n), *page = calloc(1, size);
    assert_non_null(page);
    const uint8_t *at = delta;
    assert_int_equal(delta_decode(&at, delta + n, page, size), -1);
    assert_ptr_equal(at, delta);
    free(delta);
    free(page);
}

#define MALFORMED(size, ...)                                                                                           \
    do {                                                                                                               \
        static const uint8_t bytes_[] = { __VA_ARGS__ };                                                               \
        assert_malformed(bytes_, sizeof(bytes_), (size));                                                              \
    } while (0)

static void malformed_deltas_are_refused(void **state) {
    (void)state;
    assert_malformed("", 0, PAGE);
    MALFORMED(64, 1);                               /* no skip */
    MALFORMED(64, 1, 0);                            /* no bytes */
    MALFORMED(64, 1, 0, 'a');                       /* no end */
    MALFORMED(64, 2, 0, 'a');                       /* too few bytes */
    MALFORMED(64, 64, 0, 'a');                      /* too few bytes, for all of the page */
    MALFORMED(64, 1, 64, 'a');                      /* just outside */
    MALFORMED(64, 2, 63, 'a', 'b');                 /* half outside */
    MALFORMED(64, 1, 62, 'a', 2, 0, 'b', 'c');      /* the second one outside */
    MALFORMED(64, 1, 65, 'a');                      /* skips more than there is */
    MALFORMED(64, 0x80, 0x00);                      /* 0, not in its shortest form */
    MALFORMED(64, 0x81, 0x00, 0, 'a', 0);           /* 1, not in its shortest form */
    MALFORMED(64, 1, 0x80, 0x00, 'a', 0);           /* skip 0, not in its shortest form */
    MALFORMED(64, 0x81, 0x80, 0x00, 0, 'a', 0);     /* the same in three bytes */
    MALFORMED(64, 0xff, 0xff, 0xff, 0xff, 0x0f, 0); /* 32 bits of length */
    MALFORMED(64, 1, 0xff, 0xff, 0xff, 0xff, 0x0f); /* 32 bits of skip */
    MALFORMED(64, 0x80, 0x80, 0x80, 0x80, 0x80, 1); /* many bits */
    MALFORMED(64, 0x80);                            /* half a number */
    MALFORMED(64, 0x80, 0x80);                      /* two thirds */
    MALFORMED(64, 0xc0, 0x00);                      /* 64, too long by a byte */
    MALFORMED(65536, 0x81, 0x80, 0x04, 0, 'a');     /* 65537 */
    MALFORMED(65536, 1, 0xff, 0xff, 0x7f, 'a');     /* the largest number in three bytes */
}

static void a_delta_ends_with_its_page(void **state) {
    (void)state;
    static const uint8_t bytes[] = { 1, 0xff, 0x1f, 'a', 1, 0, 'b', 0 };
    static uint8_t page[PAGE];
    const uint8_t *at = bytes;
    assert_int_equal(delta_decode(&at, bytes + sizeof(bytes), page, PAGE), 0);
    assert_ptr_equal(at, bytes + 4);
    assert_int_equal(page[PAGE - 1], 'a');
    assert_int_equal(page[0], 0);
    assert_int_equal(delta_decode(&at, bytes + sizeof(bytes), page, PAGE), 0);
    assert_ptr_equal(at, bytes + sizeof(bytes));
    assert_int_equal(page[0], 'b');
}

static void every_cut_is_refused(void **state) {
    (void)state;
    static uint8_t out[ROOM];
    start(6, PAGE);
    for (size_t i = 0; i < PAGE; i += 300) {
        memset(now + i, 0x44, 1 + i % 200);
    }
    size_t n = delta_encode(old, now, PAGE, out, sizeof(out));
    assert_true(n > 0);
    for (size_t cut = 0; cut < n; cut++) {
        assert_malformed(out, cut, PAGE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_pages_are_one_byte),
        cmocka_unit_test(one_byte_anywhere),
        cmocka_unit_test(any_length_anywhere),
        cmocka_unit_test(all_of_it),
        cmocka_unit_test(every_pattern),
        cmocka_unit_test(gaps_of_a_few_bytes_do_not_end_a_run),
        cmocka_unit_test(random_changes),
        cmocka_unit_test(any_capacity_stays_inside),
        cmocka_unit_test(deltas_follow_one_another),
        cmocka_unit_test(malformed_deltas_are_refused),
        cmocka_unit_test(a_delta_ends_with_its_page),
        cmocka_unit_test(every_cut_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
