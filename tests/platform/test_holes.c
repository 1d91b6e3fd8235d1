/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a tracker does not see: changes of the memory in which the process's page table has no part. These tests record
 * what the kernel does (6.18 here); if one of them fails on another kernel, that kernel tells more or less than we
 * know.
 *
 * Removing a page (fallocate PUNCH_HOLE by anyone, MADV_REMOVE and MADV_DONTNEED by the process) empties its page table
 * entry but leaves the write-protection there as a marker, on purpose: it belongs to the address, not to the page. So
 * memory that turned to zeros is "not written", and remains so when it is read and becomes a page of zeros again. Only
 * the next write is seen. What is copied last may then be older than the removal. Guests do that with a balloon or with
 * free page reporting, for memory whose content they promised not to care for. The file tells: SEEK_HOLE finds what was
 * not read since, and inotify says IN_MODIFY whenever anything was removed.
 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <unistd.h>

static void punch(const struct target *t, uint64_t page, uint64_t count) {
    char path[48];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)t->pid, t->file);
    int other = open(path, O_RDWR | O_CLOEXEC);
    assert_true(other >= 0);
    assert_int_equal(fallocate(other, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(page * t->page_size),
                               (off_t)(count * t->page_size)),
                     0);
    close(other);
}

static void removed(enum tracker_kind kind, uint64_t page_size) {
    struct target t;
    target_start(&t, 16, page_size);
    for (uint64_t i = 0; i < 12; i++) {
        target_ask(&t, TARGET_WRITE, i, i + 1);
    }
    struct tracker *tracker = target_track(&t, kind);
    assert_found(&t, tracker, "");

    /* removed while protected: not reported, though the content is zero now */
    punch(&t, 1, 2);
    assert_found(&t, tracker, "");
    assert_int_equal(target_ask(&t, TARGET_REMOVE, 3, 2), 0);
    assert_found(&t, tracker, "");
    assert_int_equal(target_ask(&t, TARGET_READ, 1, 0), 0);
    assert_int_equal(target_ask(&t, TARGET_READ, 3, 0), 0);
    assert_found(&t, tracker, "");

    /* the protection survived: a write into the hole, or into the page of zeros, is seen */
    target_ask(&t, TARGET_WRITE, 1, 1);
    target_ask(&t, TARGET_WRITE, 2, 1);
    target_ask(&t, TARGET_KERNEL_WRITE, 3, 1);
    target_ask(&t, TARGET_KERNEL_WRITE, 4, 1);
    assert_found(&t, tracker, "1-4");

    /* MADV_DONTNEED drops the page table entry only: content and protection stay */
    assert_int_equal(target_ask(&t, TARGET_DONTNEED, 5, 2), 0);
    assert_found(&t, tracker, "");
    assert_int_equal(target_ask(&t, TARGET_READ, 5, 0), 6);
    assert_found(&t, tracker, "");
    target_ask(&t, TARGET_WRITE, 5, 1);
    target_ask(&t, TARGET_WRITE, 6, 1);
    assert_found(&t, tracker, "5-6");

    /* written and then removed, before the next scan: reported, but by PAGEMAP_SCAN on hugetlb */
    target_ask(&t, TARGET_WRITE, 7, 1);
    punch(&t, 7, 1);
    target_ask(&t, TARGET_WRITE, 8, 1);
    target_ask(&t, TARGET_REMOVE, 8, 1);
    assert_found(&t, tracker, kind == TRACKER_ASYNC && page_size != SMALL_PAGE ? "" : "7-8");
    target_ask(&t, TARGET_WRITE, 7, 2);
    target_ask(&t, TARGET_WRITE, 8, 2);
    assert_found(&t, tracker, "7-8");
    tracker_close(tracker);
    target_end(&t);
}

static void removed_small_pages(enum tracker_kind kind) {
    removed(kind, SMALL_PAGE);
}
BOTH_KINDS(removed_small_pages)

static void removed_huge_pages(enum tracker_kind kind) {
    removed(kind, HUGE_PAGE);
}
BOTH_KINDS(removed_huge_pages)

/* Writes through the file, or another mapping of it, are not the process's. */
static void written_elsewhere(enum tracker_kind kind) {
    struct target t;
    target_start(&t, 16, SMALL_PAGE);
    target_ask(&t, TARGET_WRITE, 5, 1);
    struct tracker *tracker = target_track(&t, kind);
    assert_int_equal(pwrite(t.file, "x", 1, 5 * (off_t)SMALL_PAGE), 1);
    t.memory[6 * SMALL_PAGE] = 1;
    assert_found(&t, tracker, "");
    assert_int_equal(ftruncate(t.file, 4 * (off_t)SMALL_PAGE), 0);
    assert_int_equal(ftruncate(t.file, 16 * (off_t)SMALL_PAGE), 0);
    assert_found(&t, tracker, "");
    tracker_close(tracker);
    target_end(&t);
}
BOTH_KINDS(written_elsewhere)

/* A page of hugetlb that is in the file, but not in the process's page table, is in the first report all the same. */
static void preallocated_huge_pages(enum tracker_kind kind) {
    struct target t;
    target_start(&t, 8, HUGE_PAGE);
    t.memory[2 * HUGE_PAGE] = 1;
    struct tracker *tracker = target_track(&t, kind);
    assert_found(&t, tracker, "");
    /* populating is taken for writing by the async tracker: too much rather than too little */
    assert_int_equal(target_ask(&t, TARGET_READ, 2, 0), 1);
    assert_found(&t, tracker, kind == TRACKER_ASYNC ? "2" : "");
    target_ask(&t, TARGET_WRITE, 2, 2);
    target_ask(&t, TARGET_WRITE, 3, 2);
    assert_found(&t, tracker, "2-3");
    tracker_close(tracker);
    target_end(&t);
}
BOTH_KINDS(preallocated_huge_pages)

static bool was_modified(int notify) {
    char buffer[sizeof(struct inotify_event) + 256] __attribute__((aligned(8)));
    ssize_t n = read(notify, buffer, sizeof(buffer));
    assert_true(n > 0 || errno == EAGAIN);
    return n > 0;
}

/* inotify tells that something was removed, and is silent about writes through mappings. On a named file: the kernel
 * does not tell of MADV_REMOVE on a memfd. */
static void inotify_tells(const char *type, const char *options, uint64_t page_size) {
    struct target t;
    char path[32];
    if (page_size != SMALL_PAGE && !hugepages_reserve(8)) {
        hugepages_release();
        SKIP("8 free huge pages cannot be had");
    }
    int file = file_on(type, options);
    if (file < 0) {
        hugepages_release();
        SKIP("%s cannot be mounted", type);
    }
    target_start_on(&t, file, 8, page_size);
    for (uint64_t i = 0; i < t.pages; i++) {
        target_ask(&t, TARGET_WRITE, i, i);
    }
    int notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", t.file);
    assert_true(inotify_add_watch(notify, path, IN_MODIFY) >= 0);
    target_ask(&t, TARGET_WRITE, 1, 2);
    target_ask(&t, TARGET_DONTNEED, 1, 1);
    assert_false(was_modified(notify));
    punch(&t, 1, 1);
    assert_true(was_modified(notify));
    assert_int_equal(target_ask(&t, TARGET_REMOVE, 2, 1), 0);
    assert_true(was_modified(notify));
    assert_false(was_modified(notify));
    close(notify);
    target_end(&t);
}

static void inotify_small_pages(void **state) {
    (void)state;
    inotify_tells("tmpfs", "size=1m", SMALL_PAGE);
}

static void inotify_huge_pages(void **state) {
    (void)state;
    inotify_tells("hugetlbfs", "pagesize=2M", HUGE_PAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH_TESTS(removed_small_pages),       BOTH_TESTS(removed_huge_pages),
        BOTH_TESTS(written_elsewhere),         BOTH_TESTS(preallocated_huge_pages),
        cmocka_unit_test(inotify_small_pages), cmocka_unit_test(inotify_huge_pages),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
