/* SPDX-License-Identifier: Apache-2.0 */
/* Batches: how they are filled from dirty pages, and what of them goes over the wire. */
#include "base/bits.h"
#include "ram/gather.h"
#include "support.h"

#include <unistd.h>

#define PAGE ((size_t)RAM_PAGE_SIZE)

static const uint64_t block_pages[] = { 3000, 70, 3 * 16384 };

static struct ram ram;
static struct pass pass;
static struct digest_key key;
static struct compression_settings settings;
static struct ram_counters counters;
static struct gather gather;

static int setup(void **state) {
    (void)state;
    struct error err = { 0 };
    assert_ok(ram_init(&ram, COUNT(block_pages), &err) == 0, &err);
    for (size_t i = 0; i < COUNT(block_pages); i++) {
        uint64_t size = block_pages[i] * PAGE;
        assert_ok(ram_open_source(&ram, i, backing_on(tmpfs_file(size), size, PAGE, false), &err) == 0, &err);
    }
    assert_ok(ram_digests_open(&ram, UINT64_MAX, &err) == 0 && digest_key_make(&key, &err) == 0, &err);
    assert_ok(pass_init(&pass, &ram, &err) == 0, &err);
    memset(&counters, 0, sizeof(counters));
    atomic_store(&settings.zero_detection, true);
    gather = (struct gather){ .pass = &pass, .key = &key, .settings = &settings, .counters = &counters };
    return 0;
}

static int teardown(void **state) {
    (void)state;
    cache_close(gather.cache);
    pass_destroy(&pass);
    for (size_t i = 0; i < ram.count; i++) {
        close(backing_fd(ram.blocks[i].backing));
    }
    ram_free(&ram);
    return 0;
}

/* Gives a page a content that `value` tells, 0: zeros; and marks it. */
static void write_page(size_t block, uint64_t page, unsigned value) {
    uint8_t bytes[RAM_PAGE_SIZE] = { 0 };
    memcpy(bytes, &value, sizeof(value));
    assert_int_equal(pwrite(backing_fd(ram.blocks[block].backing), bytes, PAGE, (off_t)(page * PAGE)), PAGE);
    bits_set(ram.blocks[block].dirty, page);
}

static struct batch *fill_batch(struct batch *b, uint32_t number) {
    struct error err = { 0 };
    batch_reset(b, number);
    assert_ok(gather_batch(&gather, b, &err) == 0, &err);
    return b;
}

static void rooms_of_a_batch(void **state) {
    (void)state;
    struct batch *b = batch_new(10, NULL);
    assert_non_null(b);
    batch_reset(b, 1);
    assert_true(batch_is_empty(b));
    assert_int_equal(batch_room(b), 10);
    batch_add(&b->delta, 5);
    batch_add(&b->full, 7);
    batch_add(&b->full, 8);
    batch_add(&b->full, 10);
    assert_false(batch_is_empty(b));
    assert_int_equal(b->full.runs, 2);
    assert_int_equal(b->full.run[0].count, 2);
    assert_int_equal(batch_room(b), 7);
    for (uint64_t page = 0; page < 2 * (FRAME_MAX_PAGES - 3); page += 2) {
        batch_add(&b->zero, page);
    }
    assert_int_equal(batch_room(b), 3); /* each page might begin a run of zeros */
    batch_add(&b->zero, 100000);
    batch_add(&b->zero, 200000);
    batch_add(&b->zero, 200001); /* no new run */
    assert_int_equal(batch_room(b), 1);
    batch_free(b);
    batch_free(NULL);
}

static void a_run_has_an_end(void **state) {
    (void)state;
    struct batch_part part = { .pages = FRAME_MAX_RUN_PAGES, .runs = 1, .run = { { 0, FRAME_MAX_RUN_PAGES } } };
    batch_add(&part, FRAME_MAX_RUN_PAGES);
    assert_int_equal(part.runs, 2);
    assert_int_equal(part.run[1].first, FRAME_MAX_RUN_PAGES);
}

/* Each page lands in one part, with its bytes and digest at its place; what is not new in none. */
static void pages_are_sorted(void **state) {
    (void)state;
    struct batch *b = batch_new(64, NULL);
    gather.cache = cache_open(1 << 20);
    for (uint64_t page = 0; page < 40; page++) {
        write_page(0, page, 1 + (unsigned)page);
    }
    pass_begin(&pass, true);
    fill_batch(b, 1);
    assert_int_equal(b->full.pages, 40);
    for (uint32_t number = 2; number < 4; number++) {
        pass_begin(&pass, true);
        for (uint64_t page = 0; page < 40; page++) {
            write_page(0, page,
                       page % 4 == 0   ? 0
                       : page % 4 == 1 ? 1 + (unsigned)page
                                       : 1000 * number + (unsigned)page);
        }
        fill_batch(b, number);
        /* the second time the zeros are known there too, and the versions before are in the cache */
        assert_int_equal(b->zero.pages, number == 2 ? 10 : 0);
        assert_int_equal(b->full.pages, number == 2 ? 20 : 0);
        assert_int_equal(b->delta.pages, number == 2 ? 0 : 20);
        const struct batch_part *part = number == 2 ? &b->full : &b->delta;
        const struct page_digest *digests = number == 2 ? b->full_digests : b->delta_digests;
        for (uint32_t i = 0; i < part->runs; i++) {
            assert_int_equal(part->run[i].first, 4 * i + 2);
            assert_int_equal(part->run[i].count, 2);
            assert_true(digest_equal(digests[2 * i], ram_digest(&ram.blocks[0], 4 * i + 2)));
        }
        for (uint32_t i = 0; i < b->full.pages; i++) {
            assert_true(digest_equal(digest_page(&key, b->bytes + i * PAGE), b->full_digests[i]));
        }
    }
    assert_int_equal(atomic_load(&counters.unchanged), 20);
    assert_int_equal(atomic_load(&counters.duplicate), 20);
    assert_int_equal(ram_dirty_pages(&ram), 0);
    batch_free(b);
}

/* What was sent before there were zeros is not there any more: it is sent again, though nothing of it has changed. */
static void a_page_that_comes_back(void **state) {
    (void)state;
    struct batch *b = batch_new(64, NULL);
    for (uint32_t number = 1; number < 6; number++) {
        pass_begin(&pass, true);
        write_page(0, 3, number % 2);
        fill_batch(b, number);
        assert_int_equal(b->full.pages, number % 2);
        assert_int_equal(b->zero.pages, 1 - number % 2);
    }
    assert_int_equal(atomic_load(&counters.unchanged), 0);
    batch_free(b);
}

/* A change is one from what the destination has: not from a version that zeros took the place of. */
static void no_change_from_before_the_zeros(void **state) {
    (void)state;
    static const unsigned contents[] = { 1, 2, 0, 3, 4, 5 };
    static const char parts[] = "ffzffd"; /* full, zero, delta */
    struct batch *b = batch_new(64, NULL);
    gather.cache = cache_open(1 << 20);
    for (uint32_t i = 0; i < COUNT(contents); i++) {
        pass_begin(&pass, true);
        write_page(0, 3, contents[i]);
        fill_batch(b, i + 1);
        assert_int_equal(b->full.pages, parts[i] == 'f');
        assert_int_equal(b->zero.pages, parts[i] == 'z');
        assert_int_equal(b->delta.pages, parts[i] == 'd');
    }
    batch_free(b);
}

/* Where the destination's VMM writes too, nothing is sent that builds upon what is there. */
static void pages_that_go_whole(void **state) {
    (void)state;
    struct batch *b = batch_new(64, NULL);
    gather.cache = cache_open(1 << 20);
    ram.blocks[0].own = true;
    for (uint32_t number = 1; number < 5; number++) {
        pass_begin(&pass, true);
        for (uint64_t page = 0; page < 20; page++) {
            write_page(0, page, 1000 * number + (unsigned)page);
        }
        fill_batch(b, number);
        assert_int_equal(b->full.pages, 20);
        assert_int_equal(b->delta.pages, 0);
    }
    batch_free(b);
}

/* A batch has pages of one block, in ascending order, also when others give chunks back meanwhile. */
static void a_batch_is_of_one_block(void **state) {
    (void)state;
    struct batch *b = batch_new(1000, NULL); /* ends within a chunk: what is left of that is not lost */
    for (size_t i = 0; i < 2; i++) {
        for (uint64_t page = 0; page < block_pages[i]; page++) {
            write_page(i, page, (unsigned)page + 1);
        }
    }
    pass_begin(&pass, true);
    uint64_t seen[3] = { 0 };
    while (pass_has_chunk(&pass)) {
        fill_batch(b, 1);
        uint64_t next = 0;
        for (uint32_t i = 0; i < b->full.runs; i++) {
            assert_true(b->full.run[i].first >= next);
            next = b->full.run[i].first + b->full.run[i].count;
        }
        seen[b->block] += b->full.pages;
    }
    assert_int_equal(seen[0], block_pages[0]);
    assert_int_equal(seen[1], block_pages[1]);
    batch_free(b);
}

/* Where nothing has to be sent a batch is given up after a while: a thread must be asked whether to go on. */
static void it_does_not_look_at_everything(void **state) {
    (void)state;
    struct batch *b = batch_new(128, NULL);
    bits_set_range(ram.blocks[2].dirty, 0, block_pages[2]);
    pass_begin(&pass, true);
    unsigned batches = 0;
    for (uint64_t done = 0; pass_has_chunk(&pass); batches++) {
        fill_batch(b, 1);
        assert_true(batch_is_empty(b));
        assert_true(atomic_load(&counters.done) - done <= 16384);
        done = atomic_load(&counters.done);
    }
    assert_true(batches <= 4);
    assert_int_equal(atomic_load(&counters.duplicate), block_pages[2]);
    assert_int_equal(ram_dirty_pages(&ram), 0);
    batch_free(b);
}

#define EACH(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rooms_of_a_batch),    cmocka_unit_test(a_run_has_an_end),   EACH(pages_are_sorted),
        EACH(no_change_from_before_the_zeros), EACH(a_page_that_comes_back),         EACH(pages_that_go_whole),
        EACH(a_batch_is_of_one_block),         EACH(it_does_not_look_at_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
