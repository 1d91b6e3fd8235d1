/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bits.h"
#include "base/zero.h"
#include "ram/block.h"
#include "support.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE ((size_t)RAM_PAGE_SIZE)
#define PAGES 300u

static struct ram ram;
static struct ram_block *block;
static uint8_t buffer[PAGES * RAM_PAGE_SIZE], expected[PAGES * RAM_PAGE_SIZE];

static void open_block(bool source, int fd, uint64_t size, uint64_t host_page) {
    struct error err = { 0 };
    assert_ok(ram_init(&ram, 1, &err) == 0, &err);
    int rc = source ? ram_open_source(&ram, 0, backing_on(fd, size, host_page, false), &err)
                    : ram_open_destination(&ram, 0, backing_on(fd, size, host_page, true), &err);
    assert_ok(rc == 0, &err);
    block = &ram.blocks[0];
}

static void close_block(void) {
    int fd = backing_fd(block->backing);
    ram_free(&ram);
    close(fd);
}

static void write_page(int fd, uint64_t page, int value) {
    uint8_t bytes[RAM_PAGE_SIZE];
    memset(bytes, value, sizeof(bytes));
    assert_int_equal(pwrite(fd, bytes, sizeof(bytes), (off_t)(page * PAGE)), sizeof(bytes));
}

/* Whether the file has memory for that page. */
static bool is_allocated(int fd, uint64_t page) {
    return lseek(fd, (off_t)(page * PAGE), SEEK_DATA) == (off_t)(page * PAGE);
}

static void all_dirty(void) {
    bits_set_range(block->dirty, 0, block->pages);
}

static void skip_holes(void) {
    struct error err = { 0 };
    assert_ok(ram_skip_holes(block, &err) == 0, &err);
}

static void holes_are_not_dirty(void **state) {
    (void)state;
    static const uint64_t data[] = { 0, 1, 63, 64, 65, 128, 200, 201, 202, PAGES - 1 };
    open_block(true, tmpfs_file(sizeof(buffer)), sizeof(buffer), PAGE);
    for (size_t i = 0; i < COUNT(data); i++) {
        write_page(backing_fd(block->backing), data[i], i % 2 ? 0 : 7); /* what is allocated counts, zero or not */
    }
    all_dirty();
    skip_holes();
    assert_int_equal(ram_dirty_pages(&ram), COUNT(data));
    for (size_t i = 0; i < COUNT(data); i++) {
        assert_true(bits_test(block->dirty, data[i]));
    }
    close_block();
}

/* Pages that the guest gives back between the two questions about an extent; NONE: it does nothing. */
#define NONE UINT64_MAX
static uint64_t given_back_at = NONE;

static void give_back(int fd, uint64_t page) {
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(page * PAGE), (off_t)PAGE), 0);
}

/* In place of the library's, so that the guest can act at the worst moment. */
off_t lseek(int fd, off_t offset, int whence) {
    if (whence == SEEK_HOLE && (uint64_t)offset == given_back_at * PAGE) {
        give_back(fd, given_back_at);
        given_back_at = NONE;
    }
    return (off_t)syscall(SYS_lseek, fd, offset, whence);
}

/* A stretch of one page vanishes while it is looked at: what lies behind it is data all the same. */
static void a_page_given_back_meanwhile_hides_no_other(void **state) {
    (void)state;
    static const uint64_t data[] = { 3, 10, 20, 21, 64, PAGES - 1 };
    for (size_t gone = 0; gone < COUNT(data); gone++) {
        open_block(true, tmpfs_file(sizeof(buffer)), sizeof(buffer), PAGE);
        for (size_t i = 0; i < COUNT(data); i++) {
            write_page(backing_fd(block->backing), data[i], 7);
        }
        all_dirty();
        given_back_at = data[gone];
        skip_holes();
        given_back_at = NONE;
        for (size_t i = 0; i < COUNT(data); i++) {
            assert_true(i == gone || bits_test(block->dirty, data[i]));
        }
        close_block();
    }
}

static void files_that_are_all_hole_or_all_data(void **state) {
    (void)state;
    open_block(true, tmpfs_file(sizeof(buffer)), sizeof(buffer), PAGE);
    all_dirty();
    skip_holes();
    assert_int_equal(ram_dirty_pages(&ram), 0);
    for (uint64_t page = 0; page < PAGES; page++) {
        write_page(backing_fd(block->backing), page, 1);
    }
    all_dirty();
    skip_holes();
    assert_int_equal(ram_dirty_pages(&ram), PAGES);
    assert_int_equal(ram_pages(&ram), PAGES);
    close_block();
}

static void skipping_never_adds(void **state) {
    (void)state;
    open_block(true, tmpfs_file(sizeof(buffer)), sizeof(buffer), PAGE);
    write_page(backing_fd(block->backing), 5, 1);
    write_page(backing_fd(block->backing), 6, 1);
    bits_set(block->dirty, 6);
    bits_set(block->dirty, 7);
    skip_holes();
    assert_int_equal(ram_dirty_pages(&ram), 1);
    assert_true(bits_test(block->dirty, 6));
    close_block();
}

/* What was found written and copied since is looked at again behind a drain; what is dirty anyway is not counted. */
static void what_is_copied_between_drains(void **state) {
    (void)state;
    open_block(true, tmpfs_file(sizeof(buffer)), sizeof(buffer), PAGE);
    bits_set_range(block->written, 60, 70);
    assert_int_equal(ram_take_written(&ram), 10);
    bits_set_range(block->written, 68, 72);
    assert_int_equal(ram_take_written(&ram), 4);
    assert_int_equal(ram_provisional_pages(&ram), 0);
    bits_clear_range(block->dirty, 60, 66); /* a pass has copied them */
    assert_int_equal(ram_provisional_pages(&ram), 6);
    ram_settle(&ram);
    assert_int_equal(ram_dirty_pages(&ram), 12);
    assert_int_equal(ram_provisional_pages(&ram), 0);
    bits_clear_range(block->dirty, 0, PAGES);
    assert_int_equal(ram_provisional_pages(&ram), 0); /* a drain came before that copy */
    bits_set_range(block->written, 5, 6);
    ram_take_written(&ram);
    bits_clear_range(block->dirty, 0, PAGES);
    ram_forget_unsettled(&ram);
    ram_settle(&ram);
    assert_int_equal(ram_dirty_pages(&ram), 0);
    assert_false(ram_is_digested(&ram));
    close_block();
}

/* A file that is longer than the guest's memory, as a backend with an alignment may have it. */
static void data_behind_the_block_is_not_ours(void **state) {
    (void)state;
    struct error err = { 0 };
    int fd = tmpfs_file(sizeof(buffer) + 10 * PAGE);
    write_page(fd, PAGES + 3, 9);
    open_block(true, fd, sizeof(buffer), PAGE);
    all_dirty();
    skip_holes();
    assert_int_equal(ram_dirty_pages(&ram), 0);
    ram_free(&ram);
    open_block(false, fd, sizeof(buffer), PAGE);
    assert_ok(ram_make_empty(block, &err) == 0, &err);
    assert_true(is_allocated(fd, PAGES + 3));
    close_block();
}

static void stale_pages_are_punched_and_zero_ones_stay(void **state) {
    (void)state;
    struct error err = { 0 };
    int fd = tmpfs_file(sizeof(buffer));
    open_block(false, fd, sizeof(buffer), PAGE);
    for (uint64_t page = 0; page < PAGES; page += 3) {
        write_page(fd, page, page % 2 ? 0xee : 0);
    }
    uint8_t last = 1; /* one byte, the very last of its page */
    assert_int_equal(pwrite(fd, &last, 1, 6 * RAM_PAGE_SIZE + RAM_PAGE_SIZE - 1), 1);
    assert_ok(ram_make_empty(block, &err) == 0, &err);
    for (uint64_t page = 0; page < PAGES; page++) {
        assert_int_equal(is_allocated(fd, page), page % 6 == 0 && page != 6);
    }
    assert_ok(ram_read(block, 0, PAGES, buffer, &err) == 0, &err);
    assert_true(is_zero(buffer, sizeof(buffer)));
    close_block();
}

static void making_a_used_file_empty(void **state) {
    (void)state;
    struct error err = { 0 };
    uint64_t pages = 3 * 256 + 5; /* more than one look at a time */
    int fd = tmpfs_file(pages * PAGE);
    open_block(false, fd, pages * PAGE, PAGE);
    for (uint64_t page = 0; page < pages; page++) {
        if (page != 160) { /* one hole is enough to see that it was not preallocated */
            write_page(fd, page, 3);
        }
    }
    assert_int_equal(ram_allocated(&ram), (pages - 1) * PAGE);
    assert_ok(ram_make_empty(block, &err) == 0, &err);
    assert_int_equal(ram_allocated(&ram), 0);
    assert_ok(ram_make_empty(block, &err) == 0, &err);
    close_block();
}

static void placing(void **state) {
    (void)state;
    struct error err = { 0 };
    uint64_t seed = 4;
    int fd = tmpfs_file(sizeof(buffer));
    open_block(false, fd, sizeof(buffer), PAGE);
    memset(expected, 0, sizeof(expected));
    for (int i = 0; i < 400; i++) {
        uint64_t first = random_below(&seed, PAGES), count = 1 + random_below(&seed, PAGES - first);
        count = count > 20 ? 20 : count;
        uint8_t *at = expected + first * PAGE;
        if (i % 3 == 2) {
            memset(at, 0, count * PAGE);
            assert_ok(ram_place_zero(block, first, count, &err) == 0, &err);
        } else {
            random_fill(&seed, at, count * PAGE);
            assert_ok(ram_place(block, first, count, at, &err) == 0, &err);
        }
    }
    assert_ok(ram_read(block, 0, PAGES, buffer, &err) == 0, &err);
    assert_memory_equal(buffer, expected, sizeof(buffer));
    for (uint64_t page = 0; page < PAGES; page++) { /* zeros became holes */
        assert_int_equal(is_allocated(fd, page), !is_zero(expected + page * PAGE, PAGE));
    }
    assert_ok(ram_place_zero(block, 0, PAGES, &err) == 0, &err);
    assert_int_equal(ram_allocated(&ram), 0);
    close_block();
}

static void reading_holes_allocates_nothing(void **state) {
    (void)state;
    struct error err = { 0 };
    open_block(true, tmpfs_file(sizeof(buffer)), sizeof(buffer), PAGE);
    memset(buffer, 1, sizeof(buffer));
    assert_ok(ram_read(block, 0, PAGES, buffer, &err) == 0, &err);
    assert_true(is_zero(buffer, sizeof(buffer)));
    assert_int_equal(ram_allocated(&ram), 0);
    close_block();
}

static void a_file_that_shrank_is_told(void **state) {
    (void)state;
    struct error err = { 0 };
    open_block(true, tmpfs_file(sizeof(buffer)), sizeof(buffer), PAGE);
    assert_int_equal(ftruncate(backing_fd(block->backing), 10 * RAM_PAGE_SIZE), 0);
    assert_ok(ram_read(block, 0, 10, buffer, &err) == 0, &err);
    assert_refused(ram_read(block, 9, 2, buffer, &err), &err, ERROR_SYSTEM, "shorter than the guest's memory");
    close_block();
}

static void bad_descriptors_are_errors(void **state) {
    (void)state;
    struct error err = { 0 };
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    open_block(true, pipes[0], sizeof(buffer), PAGE);
    assert_refused(ram_skip_holes(block, &err), &err, ERROR_SYSTEM, "pc.ram");
    assert_refused(ram_make_empty(block, &err), &err, ERROR_SYSTEM, "pc.ram");
    assert_refused(ram_read(block, 0, 1, buffer, &err), &err, ERROR_SYSTEM, "pc.ram");
    assert_refused(ram_place(block, 0, 1, buffer, &err), &err, ERROR_SYSTEM, "pc.ram");
    assert_refused(ram_place_zero(block, 0, 1, &err), &err, ERROR_SYSTEM, "pc.ram");
    close(pipes[1]);
    close_block();
}

static void how_many_blocks(void **state) {
    (void)state;
    struct error err = { 0 };
    assert_refused(ram_init(&ram, 0, &err), &err, ERROR_SYSTEM, NULL);
    assert_refused(ram_init(&ram, UINT16_MAX + 1u, &err), &err, ERROR_SYSTEM, NULL);
    assert_ok(ram_init(&ram, UINT16_MAX, &err) == 0, &err);
    assert_int_equal(ram_pages(&ram), 0);
    ram_free(&ram);
}

/* --- hugetlbfs: no write(), and a page more than there is would be a SIGBUS --- */

#define SMALL_PER_HUGE (HUGE_PAGE / RAM_PAGE_SIZE)

static void open_huge(uint64_t pages, unsigned needed) {
    int fd = huge_file(pages, needed);
    if (fd < 0) {
        huge_release();
        SKIP("the host has no %u huge pages to give", needed);
    }
    open_block(false, fd, pages * HUGE_PAGE, HUGE_PAGE);
}

static void close_huge(void) {
    close_block();
    huge_release();
}

static void huge_pages_are_placed_in_parts(void **state) {
    (void)state;
    struct error err = { 0 };
    uint64_t seed = 8, edge = SMALL_PER_HUGE - 2;
    open_huge(3, 3);
    random_fill(&seed, expected, 4 * PAGE);
    assert_int_equal(ram_allocated(&ram), 0);
    assert_ok(ram_place(block, edge, 4, expected, &err) == 0, &err); /* across the border of two huge pages */
    assert_int_equal(ram_allocated(&ram), 2 * HUGE_PAGE);
    assert_ok(ram_place_zero(block, edge + 1, 2, &err) == 0, &err);
    memset(expected + PAGE, 0, 2 * PAGE);
    assert_ok(ram_read(block, edge, 4, buffer, &err) == 0, &err);
    assert_memory_equal(buffer, expected, 4 * PAGE);
    /* zeros where nothing is take no page */
    assert_ok(ram_place_zero(block, 2 * SMALL_PER_HUGE, SMALL_PER_HUGE, &err) == 0, &err);
    assert_int_equal(ram_allocated(&ram), 2 * HUGE_PAGE);
    close_huge();
}

static void stale_huge_pages_become_zero_in_place(void **state) {
    (void)state;
    struct error err = { 0 };
    open_huge(3, 3);
    memset(buffer, 0, PAGE);
    assert_ok(ram_place(block, 0, 1, buffer, &err) == 0, &err); /* allocated, zero */
    memset(buffer, 7, PAGE);
    assert_ok(ram_place(block, 2 * SMALL_PER_HUGE + 5, 1, buffer, &err) == 0, &err);
    int fd = backing_fd(block->backing);
    ram_free(&ram);
    open_block(false, fd, 3 * HUGE_PAGE, HUGE_PAGE);
    assert_ok(ram_make_empty(block, &err) == 0, &err);
    assert_int_equal(ram_allocated(&ram), 2 * HUGE_PAGE); /* tests/platform/test_backing.c says why */
    assert_ok(ram_read(block, 2 * SMALL_PER_HUGE + 5, 1, buffer, &err) == 0, &err);
    assert_true(is_zero(buffer, PAGE));
    close_huge();
}

static void hugetlbfs_without_a_page_left_is_an_error(void **state) {
    (void)state;
    struct error err = { 0 };
    open_huge(1024, 2);
    if (huge_free() > 256) {
        close_huge();
        SKIP("this host's pool of huge pages is too large to be used up");
    }
    memset(buffer, 7, PAGE);
    uint64_t page = 0;
    while (page < 300 && ram_place(block, page * SMALL_PER_HUGE, 1, buffer, &err) == 0) {
        page++;
    }
    assert_in_range(page, 2, 256);
    expect_error(&err, ERROR_SYSTEM, "vm.nr_hugepages", "ram_place");
    close_huge();
}

static void nothing_that_holds_data_is_taken_for_a_huge_hole(void **state) {
    (void)state;
    struct error err = { 0 };
    open_huge(3, 1);
    memset(buffer, 7, PAGE);
    assert_ok(ram_place(block, SMALL_PER_HUGE + 9, 1, buffer, &err) == 0, &err);
    int fd = backing_fd(block->backing);
    ram_free(&ram);
    open_block(true, fd, 3 * HUGE_PAGE, HUGE_PAGE);
    all_dirty();
    skip_holes(); /* the other two may be forgotten or not: that is the kernel's to say */
    assert_int_equal(bits_next_clear(block->dirty, SMALL_PER_HUGE, 2 * SMALL_PER_HUGE), 2 * SMALL_PER_HUGE);
    close_huge();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holes_are_not_dirty),
        cmocka_unit_test(a_page_given_back_meanwhile_hides_no_other),
        cmocka_unit_test(files_that_are_all_hole_or_all_data),
        cmocka_unit_test(skipping_never_adds),
        cmocka_unit_test(what_is_copied_between_drains),
        cmocka_unit_test(data_behind_the_block_is_not_ours),
        cmocka_unit_test(stale_pages_are_punched_and_zero_ones_stay),
        cmocka_unit_test(making_a_used_file_empty),
        cmocka_unit_test(placing),
        cmocka_unit_test(reading_holes_allocates_nothing),
        cmocka_unit_test(a_file_that_shrank_is_told),
        cmocka_unit_test(bad_descriptors_are_errors),
        cmocka_unit_test(how_many_blocks),
        cmocka_unit_test(huge_pages_are_placed_in_parts),
        cmocka_unit_test(stale_huge_pages_become_zero_in_place),
        cmocka_unit_test(hugetlbfs_without_a_page_left_is_an_error),
        cmocka_unit_test(nothing_that_holds_data_is_taken_for_a_huge_hole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
