/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/digest.h"
#include "support.h"

#define PAGE ((size_t)RAM_PAGE_SIZE)

static struct digest_key fresh_key(void) {
    struct digest_key key;
    struct error err = { 0 };
    assert_ok(digest_key_make(&key, &err) == 0, &err);
    return key;
}

static void keys_differ_and_survive_as_text(void **state) {
    (void)state;
    struct digest_key a = fresh_key(), b = fresh_key(), back;
    char text[DIGEST_KEY_TEXT_SIZE];
    assert_memory_not_equal(&a, &b, sizeof(a));
    digest_key_format(&a, text);
    assert_int_equal(strlen(text), DIGEST_KEY_TEXT_SIZE - 1);
    assert_int_equal(digest_key_parse(&back, text), 0);
    assert_memory_equal(&a, &back, sizeof(a));
}

static void what_is_no_key_is_refused(void **state) {
    (void)state;
    static const char bad[] = { 'g', 'G', 'A', 'F', ' ', '-', '/', ':', '`', '\xff' };
    struct digest_key key = fresh_key(), before = key;
    char text[DIGEST_KEY_TEXT_SIZE + 1];
    assert_int_equal(digest_key_parse(&key, NULL), -1);
    assert_int_equal(digest_key_parse(&key, ""), -1);
    for (size_t at = 0; at < DIGEST_KEY_TEXT_SIZE - 1; at += 37) {
        for (size_t i = 0; i < COUNT(bad); i++) {
            digest_key_format(&before, text);
            text[at] = bad[i];
            assert_int_equal(digest_key_parse(&key, text), -1);
        }
    }
    digest_key_format(&before, text);
    text[DIGEST_KEY_TEXT_SIZE - 2] = '\0';
    assert_int_equal(digest_key_parse(&key, text), -1);
    digest_key_format(&before, text);
    text[DIGEST_KEY_TEXT_SIZE - 1] = '0';
    text[DIGEST_KEY_TEXT_SIZE] = '\0';
    assert_int_equal(digest_key_parse(&key, text), -1);
}

/* Whatever bit of a page changes, its digest does; and no page has the digest that stands for "not known". */
static void every_bit_counts(void **state) {
    (void)state;
    struct digest_key key = fresh_key();
    uint8_t page[RAM_PAGE_SIZE];
    uint64_t seed = 3;
    random_fill(&seed, page, sizeof(page));
    struct page_digest d = digest_page(&key, page);
    assert_true(digest_known(d) && digest_equal(d, digest_page(&key, page)));
    for (size_t bit = 0; bit < PAGE * 8; bit++) {
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct page_digest other = digest_page(&key, page);
        assert_false(digest_equal(d, other) || other.low == d.low || other.high == d.high);
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    memset(page, 0, sizeof(page));
    assert_true(digest_known(digest_page(&key, page)));
}

static void another_key_gives_other_digests(void **state) {
    (void)state;
    uint8_t page[RAM_PAGE_SIZE] = { 1 };
    struct digest_key a = fresh_key(), b = a;
    for (size_t i = 0; i < DIGEST_KEY_SIZE; i += 8) { /* XXH3 takes the secret in words; any of them tells */
        b.secret[i] ^= 0x10;
    }
    assert_false(digest_equal(digest_page(&a, page), digest_page(&b, page)));
}

/* Two pages that changed places, or one more or less, are another batch. */
static void batches_know_their_order(void **state) {
    (void)state;
    struct digest_key key = fresh_key();
    struct page_digest pages[1024];
    uint64_t seed = 4;
    random_fill(&seed, pages, sizeof(pages));
    for (size_t n = 2; n <= COUNT(pages); n = n * 2 - n / 2) {
        struct page_digest d = digest_batch(&key, pages, n);
        assert_false(digest_equal(d, digest_batch(&key, pages, n - 1)));
        struct page_digest last = pages[n - 1];
        pages[n - 1] = pages[n - 2];
        pages[n - 2] = last;
        assert_false(digest_equal(d, digest_batch(&key, pages, n)));
    }
}

static void open_blocks(struct ram *ram, const uint64_t *pages, size_t count) {
    struct error err = { 0 };
    assert_ok(ram_init(ram, count, &err) == 0, &err);
    for (size_t i = 0; i < count; i++) {
        assert_ok(ram_open_source(ram, i, backing_on(-1, pages[i] * PAGE, PAGE, false), &err) == 0, &err);
    }
}

/* The table is given out block by block; what lies beyond is not known, and stays so. */
static void tables_of_any_size(void **state) {
    (void)state;
    static const uint64_t pages[] = { 5, 1, 700 };
    static const struct {
        uint64_t bytes, table[3];
    } cases[] = {
        { 0, { 0, 0, 0 } },          { 15, { 0, 0, 0 } },           { 16, { 1, 0, 0 } },
        { 5 * 16, { 5, 0, 0 } },     { 6 * 16 + 15, { 5, 1, 0 } },  { 7 * 16, { 5, 1, 1 } },
        { 706 * 16, { 5, 1, 700 } }, { UINT64_MAX, { 5, 1, 700 } },
    };
    for (size_t c = 0; c < COUNT(cases); c++) {
        struct ram ram;
        struct error err = { 0 };
        open_blocks(&ram, pages, COUNT(pages));
        assert_ok(ram_digests_open(&ram, cases[c].bytes, &err) == 0, &err);
        for (size_t i = 0; i < COUNT(pages); i++) {
            struct ram_block *b = &ram.blocks[i];
            assert_int_equal(b->digested, cases[c].table[i]);
            for (uint64_t page = 0; page < pages[i]; page++) {
                assert_false(digest_known(ram_digest(b, page)));
                ram_set_digest(b, page, (struct page_digest){ page + 1, i });
            }
            for (uint64_t page = 0; page < pages[i]; page++) {
                struct page_digest want = { page < b->digested ? page + 1 : 0, page < b->digested ? i : 0 };
                assert_true(digest_equal(ram_digest(b, page), want));
            }
        }
        ram_free(&ram);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_differ_and_survive_as_text),
        cmocka_unit_test(what_is_no_key_is_refused),
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(another_key_gives_other_digests),
        cmocka_unit_test(batches_know_their_order),
        cmocka_unit_test(tables_of_any_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
