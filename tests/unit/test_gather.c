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
static struct gather source;
static struct shelf shelf;
static struct batch *spare; /* what a batch that leaves is exchanged for */

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
    source = (struct gather){ .pass = &pass, .key = &key, .settings = &settings, .counters = &counters };
    return 0;
}

/* A shelf of as many kinds, with batches of `pages`. */
static void open_shelf(unsigned kinds, uint32_t pages) {
    shelf = (struct shelf){ .kinds = kinds };
    for (unsigned k = 0; k < kinds; k++) {
        shelf.batch[k] = batch_new(pages, NULL);
        assert_non_null(shelf.batch[k]);
    }
    spare = batch_new(pages, NULL);
    assert_non_null(spare);
}

static int teardown(void **state) {
    (void)state;
    for (unsigned k = 0; k < shelf.kinds; k++) {
        batch_free(shelf.batch[k]);
    }
    batch_free(spare);
    shelf = (struct shelf){ 0 };
    spare = NULL;
    cache_close(source.cache);
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

/* The next batch that leaves, in `spare` until the next call; NULL: none does. */
static struct batch *next_batch(uint32_t number, bool apart) {
    struct error err = { 0 };
    struct gathered got;
    assert_ok(gather(&source, &shelf, number, apart, &got, &err) == 0, &err);
    if (got.leaves < 0) {
        return NULL;
    }
    return spare = shelf_take(&shelf, got.leaves, spare);
}

/* The only one of a pass; empty when the pass has nothing to send. */
static struct batch *fill_batch(uint32_t number) {
    if (next_batch(number, false) == NULL) {
        batch_reset(spare, 0, number);
    }
    assert_true(shelf_is_empty(&shelf) || next_batch(number, false) == NULL);
    assert_true(shelf_is_empty(&shelf));
    return spare;
}

static void rooms_of_a_batch(void **state) {
    (void)state;
    struct batch *b = batch_new(10, NULL);
    assert_non_null(b);
    batch_reset(b, 0, 1);
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
    open_shelf(1, 64);
    struct batch *b;
    source.cache = cache_open(1 << 20);
    for (uint64_t page = 0; page < 40; page++) {
        write_page(0, page, 1 + (unsigned)page);
    }
    pass_begin(&pass, true);
    b = fill_batch(1);
    assert_int_equal(b->full.pages, 40);
    for (uint32_t number = 2; number < 4; number++) {
        pass_begin(&pass, true);
        for (uint64_t page = 0; page < 40; page++) {
            write_page(0, page,
                       page % 4 == 0   ? 0
                       : page % 4 == 1 ? 1 + (unsigned)page
                                       : 1000 * number + (unsigned)page);
        }
        b = fill_batch(number);
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
}

/* What was sent before there were zeros is not there any more: it is sent again, though nothing of it has changed. */
static void a_page_that_comes_back(void **state) {
    (void)state;
    open_shelf(1, 64);
    struct batch *b;
    for (uint32_t number = 1; number < 6; number++) {
        pass_begin(&pass, true);
        write_page(0, 3, number % 2);
        b = fill_batch(number);
        assert_int_equal(b->full.pages, number % 2);
        assert_int_equal(b->zero.pages, 1 - number % 2);
    }
    assert_int_equal(atomic_load(&counters.unchanged), 0);
}

/* A change is one from what the destination has: not from a version that zeros took the place of. */
static void no_change_from_before_the_zeros(void **state) {
    (void)state;
    static const unsigned contents[] = { 1, 2, 0, 3, 4, 5 };
    static const char parts[] = "ffzffd"; /* full, zero, delta */
    open_shelf(1, 64);
    struct batch *b;
    source.cache = cache_open(1 << 20);
    for (uint32_t i = 0; i < COUNT(contents); i++) {
        pass_begin(&pass, true);
        write_page(0, 3, contents[i]);
        b = fill_batch(i + 1);
        assert_int_equal(b->full.pages, parts[i] == 'f');
        assert_int_equal(b->zero.pages, parts[i] == 'z');
        assert_int_equal(b->delta.pages, parts[i] == 'd');
    }
}

/* Where the destination's VMM writes too, nothing is sent that builds upon what is there. */
static void pages_that_go_whole(void **state) {
    (void)state;
    open_shelf(1, 64);
    struct batch *b;
    source.cache = cache_open(1 << 20);
    ram.blocks[0].own = true;
    for (uint32_t number = 1; number < 5; number++) {
        pass_begin(&pass, true);
        for (uint64_t page = 0; page < 20; page++) {
            write_page(0, page, 1000 * number + (unsigned)page);
        }
        b = fill_batch(number);
        assert_int_equal(b->full.pages, 20);
        assert_int_equal(b->delta.pages, 0);
    }
}

/* All of a pass, through a shelf: each page goes once, what leaves is of one block, and ascends. */
static void gather_all(uint32_t number, bool apart, uint64_t seen[COUNT(block_pages)], unsigned *batches) {
    struct batch *b;
    *batches = 0;
    memset(seen, 0, COUNT(block_pages) * sizeof(seen[0]));
    while ((b = next_batch(number, apart)) != NULL) {
        uint64_t next = 0, pages = 0;
        assert_int_equal(b->pass, number);
        assert_true(b->full.pages <= b->max_pages);
        for (uint32_t i = 0; i < b->full.runs; i++) {
            assert_true(b->full.run[i].first >= next);
            next = b->full.run[i].first + b->full.run[i].count;
            assert_true(next <= block_pages[b->block]);
            for (uint64_t page = b->full.run[i].first; page < next; page++, pages++) {
                struct page_digest d = digest_page(&key, b->bytes + pages * PAGE);
                assert_true(digest_equal(d, b->full_digests[pages]));
                assert_true(digest_equal(d, ram_digest(&ram.blocks[b->block], page)));
            }
        }
        assert_int_equal(pages, b->full.pages);
        seen[b->block] += pages;
        (*batches)++;
    }
    assert_true(shelf_is_empty(&shelf));
    assert_false(pass_has_chunk(&pass));
    assert_int_equal(ram_dirty_pages(&ram), 0);
}

static void a_batch_is_of_one_block(void **state) {
    (void)state;
    uint64_t seen[COUNT(block_pages)];
    unsigned batches;
    open_shelf(1, 1000); /* ends within a chunk: what is left of that is not lost */
    for (size_t i = 0; i < 2; i++) {
        for (uint64_t page = 0; page < block_pages[i]; page++) {
            write_page(i, page, (unsigned)page + 1);
        }
    }
    pass_begin(&pass, true);
    gather_all(1, false, seen, &batches);
    assert_int_equal(seen[0], block_pages[0]);
    assert_int_equal(seen[1], block_pages[1]);
    assert_int_equal(batches, 4);
}

static uint64_t seed = 3;

/* A page that is taken for one of that kind. */
static void write_kind(size_t block, uint64_t page, enum page_kind kind) {
    uint64_t words[RAM_PAGE_SIZE / 8];
    uint8_t *bytes = (uint8_t *)words;
    do {
        random_fill(&seed, bytes, PAGE);
        for (size_t i = 0; kind != KIND_NOISE && i < PAGE / 8; i++) {
            words[i] = kind == KIND_WORDS  ? UINT64_C(0x7f0000000000) + words[i] % (1 << 28)
                       : kind == KIND_TEXT ? (words[i] & UINT64_C(0x3f3f3f3f3f3f3f3f)) + UINT64_C(0x2020202020202020)
                                           : words[i] & UINT64_C(0x0f0f0f0f0f0f0f0f);
        }
    } while (page_kind(bytes) != kind);
    assert_int_equal(pwrite(backing_fd(ram.blocks[block].backing), bytes, PAGE, (off_t)(page * PAGE)), PAGE);
    bits_set(ram.blocks[block].dirty, page);
}

/* Each page by itself is of one kind or another, or zero: what leaves has pages of one kind, and is full until the
 * block ends. */
static void pages_of_a_kind_go_together(void **state) {
    (void)state;
    uint64_t seen[COUNT(block_pages)], zeros = 0;
    unsigned pages[PAGE_KINDS] = { 0 }, batches[PAGE_KINDS] = { 0 };
    struct batch *b;
    open_shelf(PAGE_KINDS, 128);
    memset(seen, 0, sizeof(seen));
    for (uint64_t page = 0; page < block_pages[0]; page++) {
        unsigned kind = (unsigned)random_below(&seed, PAGE_KINDS + 1);
        if (kind == PAGE_KINDS) {
            write_page(0, page, 0);
            zeros++;
        } else {
            write_kind(0, page, (enum page_kind)kind);
            pages[kind]++;
        }
    }
    pass_begin(&pass, true);
    while ((b = next_batch(1, true)) != NULL) {
        for (uint32_t i = 0; i < b->full.pages; i++) {
            assert_int_equal(page_kind(b->bytes + i * PAGE), b->kind);
            assert_true(digest_equal(digest_page(&key, b->bytes + i * PAGE), b->full_digests[i]));
        }
        pages[b->kind] -= b->full.pages;
        batches[b->kind]++;
        assert_true(pages[b->kind] == 0 || b->full.pages > 128 - SHELF_LEAST_ROOM);
    }
    for (unsigned k = 0; k < PAGE_KINDS; k++) {
        assert_int_equal(pages[k], 0);
        assert_true(batches[k] > 1);
    }
    assert_int_equal(atomic_load(&counters.duplicate), zeros);
    assert_int_equal(atomic_load(&counters.done), block_pages[0]);
    assert_true(shelf_is_empty(&shelf));
}

static const struct batch *batch_of_a_text(uint32_t number, bool apart) {
    write_kind(0, 3, KIND_TEXT);
    pass_begin(&pass, true);
    const struct batch *b = next_batch(number, apart);
    assert_non_null(b);
    return b;
}

/* Whoever learns from a batch has to know whether it is of one kind. */
static void what_lies_together_says_so(void **state) {
    (void)state;
    open_shelf(PAGE_KINDS, 64);
    const struct batch *b = batch_of_a_text(1, true);
    assert_true(b->kind == KIND_TEXT && !b->together);
    b = batch_of_a_text(2, false);
    assert_true(b->kind == KIND_MIXED && b->together);
    b = batch_of_a_text(3, true);
    assert_true(b->kind == KIND_TEXT && !b->together);
}

/* It is sent before anything that is told apart lies there. */
static void what_lies_together_leaves_first(void **state) {
    (void)state;
    open_shelf(PAGE_KINDS, 64);
    shelf_reset(&shelf, 0, 1);
    batch_add(&shelf.batch[KIND_MIXED]->full, 1);
    shelf.batch[KIND_MIXED]->together = true;
    write_kind(0, 3, KIND_MIXED);
    pass_begin(&pass, true);
    const struct batch *b = next_batch(1, true);
    assert_true(b != NULL && b->together && b->full.pages == 1 && b->full.run[0].first == 1);
    b = next_batch(1, true);
    assert_true(b != NULL && !b->together && b->full.pages == 1 && b->full.run[0].first == 3);
}

/* Where there is one batch for all, all is of one kind. */
static void a_single_batch_is_of_one_kind(void **state) {
    (void)state;
    open_shelf(1, 64);
    assert_false(batch_of_a_text(1, false)->together);
}

/* Many passes over blocks of all sizes, with a shelf that tells kinds apart, and now and then does not. */
static void every_page_goes_once(void **state) {
    (void)state;
    uint64_t seen[COUNT(block_pages)];
    unsigned batches;
    open_shelf(PAGE_KINDS, 40);
    for (uint32_t number = 1; number < 12; number++) {
        uint64_t wrote[COUNT(block_pages)] = { 0 };
        for (size_t i = 0; i < COUNT(block_pages); i++) {
            for (uint64_t page = random_below(&seed, 20); page < block_pages[i]; page += 1 + random_below(&seed, 60)) {
                write_kind(i, page, (enum page_kind)random_below(&seed, PAGE_KINDS));
                wrote[i]++;
            }
        }
        pass_begin(&pass, number % 2 == 0);
        gather_all(number, number % 4 != 0, seen, &batches);
        assert_memory_equal(seen, wrote, sizeof(seen));
    }
    assert_int_equal(atomic_load(&counters.unchanged), 0);
}

/* What one has begun another one goes on with: a rest of a chunk is not lost with the batch that was taken. */
static void a_shelf_keeps_its_chunk(void **state) {
    (void)state;
    open_shelf(PAGE_KINDS, 64);
    for (uint64_t page = 0; page < 200; page++) {
        write_kind(0, page, KIND_TEXT);
    }
    pass_begin(&pass, true);
    struct batch *b = next_batch(1, true);
    assert_int_equal(b->kind, KIND_TEXT);
    assert_false(shelf_is_empty(&shelf));
    uint64_t pages = b->full.pages;
    while ((b = next_batch(1, true)) != NULL) {
        pages += b->full.pages;
    }
    assert_int_equal(pages, 200);
}

/* What waits is on no shelf. */
static void a_chunk_that_waits_stays_dirty(void **state) {
    (void)state;
    uint64_t waiting[2] = { 1 << 1, 0 }, pages = 0; /* the second chunk of the first block */
    struct batch *b;
    open_shelf(PAGE_KINDS, 64);
    for (uint64_t page = 0; page < 3 * PASS_CHUNK_PAGES; page++) {
        write_kind(0, page, (enum page_kind)(page % PAGE_KINDS));
    }
    pass_set_waiting(&pass, waiting);
    pass_begin(&pass, false);
    while ((b = next_batch(1, true)) != NULL) {
        pages += b->full.pages;
    }
    assert_int_equal(pages, 2 * PASS_CHUNK_PAGES);
    assert_int_equal(ram_dirty_pages(&ram), PASS_CHUNK_PAGES);
    pass_begin(&pass, true);
    while ((b = next_batch(2, true)) != NULL) {
        assert_int_equal(b->pass, 2);
        pages += b->full.pages;
    }
    assert_int_equal(pages, 3 * PASS_CHUNK_PAGES);
}

/* Where nothing has to be sent a job is given up after a while: a thread must be asked whether to go on. */
static void it_does_not_look_at_everything(void **state) {
    (void)state;
    open_shelf(1, 128);
    bits_set_range(ram.blocks[2].dirty, 0, block_pages[2]);
    pass_begin(&pass, true);
    unsigned jobs = 0;
    for (uint64_t done = 0; pass_has_chunk(&pass); jobs++) {
        assert_null(next_batch(1, false));
        assert_true(atomic_load(&counters.done) - done <= 16384);
        done = atomic_load(&counters.done);
    }
    assert_true(jobs <= 4);
    assert_int_equal(atomic_load(&counters.duplicate), block_pages[2]);
    assert_int_equal(ram_dirty_pages(&ram), 0);
}

#define EACH(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rooms_of_a_batch),
        cmocka_unit_test(a_run_has_an_end),
        EACH(pages_are_sorted),
        EACH(no_change_from_before_the_zeros),
        EACH(a_page_that_comes_back),
        EACH(pages_that_go_whole),
        EACH(a_batch_is_of_one_block),
        EACH(it_does_not_look_at_everything),
        EACH(pages_of_a_kind_go_together),
        EACH(what_lies_together_says_so),
        EACH(what_lies_together_leaves_first),
        EACH(a_single_batch_is_of_one_kind),
        EACH(every_page_goes_once),
        EACH(a_shelf_keeps_its_chunk),
        EACH(a_chunk_that_waits_stays_dirty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
