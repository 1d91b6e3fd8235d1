/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that was promised stays promised: what a destination does with a file before and while pages arrive never
 * gives back what was reserved or allocated beforehand, and never takes more than pages need where nothing was.
 *
 * Each file is alone on a file system of its own, and what the file system has given away is what counts: for hugetlbfs
 * with a size that includes what is reserved and not yet there.
 */
#include "support.h"

#include "base/bits.h"
#include "ram/backing.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PAGES 600u /* more than two MiB, and no whole number of them */

struct scene {
    int fd;
    uint64_t page_size, pages;
    struct backing *backing;
    uint8_t *expected, *got;
};

static void scene_on(struct scene *s, const char *type, const char *options, uint64_t page_size, uint64_t pages) {
    *s = (struct scene){ .fd = file_on(type, options), .page_size = page_size, .pages = pages };
    if (s->fd < 0) {
        hugepages_release();
        SKIP("%s cannot be mounted", type);
    }
    assert_int_equal(ftruncate(s->fd, (off_t)(pages * page_size)), 0);
    s->expected = calloc(pages, page_size);
    s->got = malloc(pages * page_size);
    assert_true(s->expected != NULL && s->got != NULL);
}

/* As a receiver does it: opened when the VMM is there, emptied once. */
static void receive(struct scene *s) {
    struct error err = { 0 };
    struct backing_file file = { "ram", s->pages * s->page_size, s->page_size, s->fd, true };
    s->backing = backing_open_file(&file, &err);
    assert_ok(s->backing != NULL, &err);
    assert_ok(s->backing->ops->make_empty(s->backing, &err) == 0, &err);
}

static void scene_end(struct scene *s) {
    backing_close(s->backing);
    close(s->fd);
    free(s->expected);
    free(s->got);
    hugepages_release();
}

/* Host pages that the file's file system does not have any more. */
static uint64_t taken(const struct scene *s) {
    struct statfs fs;
    assert_int_equal(fstatfs(s->fd, &fs), 0);
    return (uint64_t)(fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize / s->page_size;
}

static void check_content(struct scene *s) {
    struct error err = { 0 };
    uint64_t size = s->pages * s->page_size;
    assert_ok(s->backing->ops->read(s->backing, 0, size, s->got, &err) == 0, &err);
    assert_memory_equal(s->got, s->expected, size);
}

/* Small pages [first, end) hold `value`, or become zero. */
static void put(struct scene *s, uint64_t first, uint64_t end, int value) {
    struct error err = { 0 };
    uint64_t at = first * RAM_PAGE_SIZE, size = (end - first) * RAM_PAGE_SIZE;
    memset(s->expected + at, value, size);
    int rc = value != 0 ? s->backing->ops->place(s->backing, at, size, s->expected + at, &err)
                        : s->backing->ops->zero(s->backing, at, size, &err);
    assert_ok(rc == 0, &err);
}

static void leave(const struct scene *s, uint64_t first, uint64_t end, int value) {
    uint8_t page[RAM_PAGE_SIZE];
    memset(page, value, sizeof(page));
    for (uint64_t i = first; i < end; i++) {
        assert_int_equal(pwrite(s->fd, page, sizeof(page), (off_t)(i * sizeof(page))), sizeof(page));
    }
}

/* Pages come, change and go; more in one call than is written at a time. */
static void move(struct scene *s) {
    uint64_t end = s->pages * s->page_size / RAM_PAGE_SIZE;
    put(s, 0, end - 3, 0x11);
    put(s, 1, 200, 0);
    put(s, 100, 110, 0x22);
    put(s, 0, 1, 0);
    check_content(s);
    put(s, 0, end, 0);
    check_content(s);
}

/* ---- small pages ---- */

static void preallocated_pages_stay(int left, uint64_t first, uint64_t end) {
    struct scene s;
    scene_on(&s, "tmpfs", "size=8m", SMALL_PAGE, PAGES);
    assert_int_equal(fallocate(s.fd, 0, 0, PAGES * (off_t)SMALL_PAGE), 0);
    leave(&s, first, end, left);
    uint64_t before = taken(&s);
    assert_true(before >= PAGES);
    receive(&s);
    assert_int_equal(taken(&s), before);
    check_content(&s);
    move(&s);
    assert_int_equal(taken(&s), before);
    scene_end(&s);
}

/* SEEK_DATA finds nothing in such a file. */
static void allocated_and_never_touched(void **state) {
    (void)state;
    preallocated_pages_stay(0, 0, 0);
}

static void allocated_and_touched(void **state) {
    (void)state;
    preallocated_pages_stay(0, 0, PAGES);
}

static void allocated_with_old_content_in_part(void **state) {
    (void)state;
    preallocated_pages_stay(0x5a, 3, 400);
}

static void full_of_old_content(void **state) {
    (void)state;
    preallocated_pages_stay(0x5a, 0, PAGES);
}

static void a_sparse_file_stays_sparse(void **state) {
    (void)state;
    struct scene s;
    scene_on(&s, "tmpfs", "size=8m", SMALL_PAGE, PAGES);
    uint64_t empty = taken(&s);
    leave(&s, 0, 256, 0x5a);
    leave(&s, 300, PAGES, 0x5a);
    receive(&s);
    assert_int_equal(taken(&s), empty);
    check_content(&s);
    put(&s, 10, 20, 1);
    assert_int_equal(taken(&s), empty + 10);
    put(&s, 0, PAGES, 0);
    assert_int_equal(taken(&s), empty);
    move(&s);
    assert_int_equal(taken(&s), empty);
    scene_end(&s);
}

/* What was allocated beforehand in a file that has holes too. */
static void some_pages_are_kept(void **state) {
    (void)state;
    struct scene s;
    scene_on(&s, "tmpfs", "size=8m", SMALL_PAGE, PAGES);
    uint64_t empty = taken(&s);
    leave(&s, 50, 60, 0);
    leave(&s, 64, 65, 0);
    leave(&s, 127, 129, 0);
    leave(&s, 590, PAGES, 0);
    leave(&s, 300, 310, 0x5a);
    receive(&s);
    assert_int_equal(taken(&s), empty + 23);
    move(&s);
    assert_int_equal(taken(&s), empty + 23);
    put(&s, 40, 70, 9);
    assert_int_equal(taken(&s), empty + 23 + 19);
    put(&s, 55, 128, 0); /* begins and ends within what is kept */
    check_content(&s);
    assert_int_equal(taken(&s), empty + 23 + 10);
    scene_end(&s);
}

/* ---- huge pages ---- */

#define HUGES 6u

static void huge_scene(struct scene *s) {
    if (!hugepages_reserve(HUGES)) {
        hugepages_release();
        SKIP("%u free huge pages cannot be had", HUGES);
    }
    scene_on(s, "hugetlbfs", "pagesize=2M,size=32M", HUGE_PAGE, HUGES);
}

static uint8_t *map_huge(const struct scene *s, int more_flags) {
    uint8_t *map = mmap(NULL, s->pages * HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | more_flags, s->fd, 0);
    assert_true(map != MAP_FAILED);
    return map;
}

/* What the VMM has reserved by mapping the file is still the file's, whatever was in it before. */
static void reserved_huge_pages_stay(unsigned old) {
    struct scene s;
    huge_scene(&s);
    uint8_t *vmm = map_huge(&s, 0);
    memset(vmm, 0x5a, old * HUGE_PAGE);
    assert_int_equal(taken(&s), HUGES);
    receive(&s);
    assert_int_equal(taken(&s), HUGES);
    check_content(&s);
    move(&s);
    assert_int_equal(taken(&s), HUGES);
    memset(vmm, 1, HUGES * HUGE_PAGE); /* no SIGBUS */
    munmap(vmm, HUGES * HUGE_PAGE);
    scene_end(&s);
}

static void reserved_and_new(void **state) {
    (void)state;
    reserved_huge_pages_stay(0);
}

static void reserved_with_old_content_in_part(void **state) {
    (void)state;
    reserved_huge_pages_stay(2);
}

static void reserved_with_old_content(void **state) {
    (void)state;
    reserved_huge_pages_stay(HUGES);
}

/* A VMM that reserves nothing (reserve=off): zeros take no page. */
static void unreserved_huge_pages(void **state) {
    (void)state;
    struct scene s;
    huge_scene(&s);
    uint8_t *vmm = map_huge(&s, MAP_NORESERVE);
    memset(vmm + HUGE_PAGE, 0x5a, HUGE_PAGE);
    assert_int_equal(taken(&s), 1);
    receive(&s);
    check_content(&s);
    assert_int_equal(taken(&s), 1); /* it had that one when we came */
    put(&s, 0, 3 * 512, 0);
    put(&s, 4 * 512 + 7, 4 * 512 + 8, 3);
    assert_int_equal(taken(&s), 2);
    check_content(&s);
    munmap(vmm, HUGES * HUGE_PAGE);
    scene_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocated_and_never_touched),
        cmocka_unit_test(allocated_and_touched),
        cmocka_unit_test(allocated_with_old_content_in_part),
        cmocka_unit_test(full_of_old_content),
        cmocka_unit_test(a_sparse_file_stays_sparse),
        cmocka_unit_test(some_pages_are_kept),
        cmocka_unit_test(reserved_and_new),
        cmocka_unit_test(reserved_with_old_content_in_part),
        cmocka_unit_test(reserved_with_old_content),
        cmocka_unit_test(unreserved_huge_pages),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
