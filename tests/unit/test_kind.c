/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/block.h"
#include "ram/kind.h"
#include "support.h"

#define PAGE ((size_t)RAM_PAGE_SIZE)
#define MANY 2000

static uint64_t words[RAM_PAGE_SIZE / 8];
static uint8_t *const page = (uint8_t *)words;
static uint64_t seed = 11;

static unsigned count_of(enum page_kind kind, void (*fill)(void)) {
    unsigned n = 0;
    for (unsigned i = 0; i < MANY; i++) {
        fill();
        n += page_kind(page) == kind;
    }
    return n;
}

static void noise(void) {
    random_fill(&seed, page, PAGE);
}

static void text(void) {
    static const char *const some[] = { "the ", "of\n", "struct page ", "\t", "return -1;\n", "guest ", "42, ", "<p>" };
    for (size_t at = 0; at < PAGE;) {
        const char *word = some[random_below(&seed, COUNT(some))];
        size_t n = strlen(word) < PAGE - at ? strlen(word) : PAGE - at;
        memcpy(page + at, word, n);
        at += n;
    }
}

static void base64(void) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < PAGE; i++) {
        page[i] = (uint8_t)alphabet[random_below(&seed, 64)];
    }
}

static void user_pointers(void) {
    for (size_t i = 0; i < PAGE / 8; i++) {
        words[i] = i % 3 == 0 ? random_below(&seed, 100) : 0x7f1200000000 + random_below(&seed, 1 << 28);
    }
}

static void kernel_pointers(void) {
    for (size_t i = 0; i < PAGE / 8; i++) {
        words[i] = i % 4 == 0 ? 0 : 0xffff888000000000 + random_below(&seed, 1 << 30);
    }
}

static void small_numbers(void) {
    uint32_t *numbers = (uint32_t *)(void *)page;
    for (size_t i = 0; i < PAGE / 4; i++) {
        numbers[i] = (uint32_t)random_below(&seed, 60000);
    }
}

/* As machine code has it: some bytes far oftener than others, a few zeros. */
static void code(void) {
    static const uint8_t often[] = { 0x48, 0x8b, 0x89, 0xe8, 0x0f, 0x44, 0x24, 0x08, 0x83, 0x85, 0xc0, 0x74, 0x00 };
    for (size_t i = 0; i < PAGE; i++) {
        page[i] = random_below(&seed, 10) < 7 ? often[random_below(&seed, COUNT(often))] : (uint8_t)random_next(&seed);
    }
}

static void each_kind_is_known(void **state) {
    (void)state;
    assert_true(count_of(KIND_NOISE, noise) > MANY * 99 / 100);
    assert_int_equal(count_of(KIND_TEXT, text), MANY);
    assert_int_equal(count_of(KIND_TEXT, base64), MANY);
    assert_true(count_of(KIND_WORDS, user_pointers) > MANY * 99 / 100);
    assert_true(count_of(KIND_WORDS, kernel_pointers) > MANY * 95 / 100);
    assert_int_equal(count_of(KIND_WORDS, small_numbers), MANY);
    assert_true(count_of(KIND_MIXED, code) > MANY * 95 / 100);
}

/* What shrinks is hardly ever taken for noise: with noise it would go raw. */
static void nothing_else_is_noise(void **state) {
    (void)state;
    static void (*const fills[])(void) = { text, base64, user_pointers, kernel_pointers, small_numbers, code };
    for (size_t i = 0; i < COUNT(fills); i++) {
        assert_true(count_of(KIND_NOISE, fills[i]) < MANY / 500);
    }
}

/* A header of its own at a page's beginning, or nothing at its end, does not change what the rest is. */
static void a_header_does_not_tell(void **state) {
    (void)state;
    unsigned n = 0;
    for (unsigned i = 0; i < MANY; i++) {
        noise();
        memset(page, 0, 64);
        memset(page + PAGE - 400, 0, 400);
        n += page_kind(page) == KIND_NOISE;
    }
    assert_true(n > MANY * 98 / 100);
}

/* One that knows where the look goes can have what it wants; the unit that it spoils is measured (test_choice). It
 * reads nothing outside of the page. */
static void the_look_stays_inside(void **state) {
    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        uint8_t *exact = malloc(PAGE);
        assert_non_null(exact);
        random_fill(&seed, exact, PAGE);
        page_kind(exact);
        free(exact);
    }
}

/* Pages of a kind lie together, each once, and in their order. */
static void sorted_by_kind(void **state) {
    (void)state;
    static void (*const fills[])(void) = { noise, text, user_pointers, code };
    enum { PAGES = 501 };
    uint8_t *pages = malloc(PAGES * PAGE);
    assert_non_null(pages);
    for (uint32_t i = 0; i < PAGES; i++) {
        fills[random_below(&seed, COUNT(fills))]();
        memcpy(page, &i, sizeof(i)); /* where no look goes */
        memcpy(pages + i * PAGE, page, PAGE);
    }
    assert_int_equal(kind_sort(pages, PAGES), 0);
    bool seen[PAGES] = { false };
    unsigned changes = 0;
    for (uint32_t i = 0, before = 0; i < PAGES; i++) {
        uint32_t number;
        memcpy(&number, pages + i * PAGE, sizeof(number));
        assert_true(number < PAGES && !seen[number]);
        seen[number] = true;
        bool other = i > 0 && page_kind(pages + i * PAGE) != page_kind(pages + (i - 1) * PAGE);
        assert_true(i == 0 || other || number > before);
        changes += other;
        before = number;
    }
    assert_int_equal(changes, PAGE_KINDS - 1);
    assert_int_equal(kind_sort(pages, 0), 0);
    free(pages);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_is_known),     cmocka_unit_test(nothing_else_is_noise),
        cmocka_unit_test(a_header_does_not_tell), cmocka_unit_test(the_look_stays_inside),
        cmocka_unit_test(sorted_by_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
