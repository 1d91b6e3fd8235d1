/* SPDX-License-Identifier: Apache-2.0 */
/* Both trackers on memory that is private to a process: anonymous, private copies of files, private huge pages. */
#include "support.h"

#include "base/bits.h"
#include "base/clock.h"
#include "host/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE /* Linux 6.1 */
#define MADV_COLLAPSE 25
#endif

/* What holds of every kind: exact pages, first touches, what was given back and came again. */
static void same_rules(enum tracker_kind kind, int file, uint64_t page_size) {
    struct target t;
    target_start_private(&t, file, 16, page_size);
    target_ask(&t, TARGET_WRITE, 0, 1);
    target_ask(&t, TARGET_WRITE, 3, 1);
    struct tracker *tracker = target_track(&t, kind);
    assert_found(&t, tracker, "");
    target_ask(&t, TARGET_WRITE, 3, 2);
    assert_found(&t, tracker, "3");
    assert_found(&t, tracker, "");
    target_ask(&t, TARGET_KERNEL_WRITE, 0, 2);
    assert_found(&t, tracker, "0");
    /* for the first time, once by the process and once by the kernel */
    target_ask(&t, TARGET_WRITE, 7, 3);
    target_ask(&t, TARGET_KERNEL_WRITE, 9, 3);
    assert_found(&t, tracker, "7 9");
    assert_int_equal(target_ask(&t, TARGET_READ, 7, 0), 3);
    assert_found(&t, tracker, "");
    /* given back, and touched again */
    assert_int_equal(target_ask(&t, TARGET_DONTNEED, 7, 3), 0);
    target_ask(&t, TARGET_WRITE, 7, 4);
    assert_found(&t, tracker, "7");
    target_ask(&t, TARGET_WRITE, 7, 5);
    assert_found(&t, tracker, "7");
    assert_found(&t, tracker, "");
    tracker_close(tracker);
    target_ask(&t, TARGET_FILL, 0, t.pages);
    target_end(&t);
}

static void anonymous(enum tracker_kind kind) {
    same_rules(kind, -1, SMALL_PAGE);
}
BOTH_KINDS(anonymous)

static void anonymous_huge(enum tracker_kind kind) {
    same_rules(kind, -1, HUGE_PAGE);
}
BOTH_KINDS(anonymous_huge)

static int memfd_of(uint64_t size, unsigned flags) {
    int file = memfd_create("target", MFD_CLOEXEC | flags);
    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, (off_t)size), 0);
    return file;
}

static void copies_of_a_file(enum tracker_kind kind) {
    same_rules(kind, memfd_of(16 * SMALL_PAGE, 0), SMALL_PAGE);
}
BOTH_KINDS(copies_of_a_file)

static void copies_of_a_huge_file(enum tracker_kind kind) {
    same_rules(kind, memfd_of(16 * HUGE_PAGE, MFD_HUGETLB), HUGE_PAGE);
}
BOTH_KINDS(copies_of_a_huge_file)

/* A file on a disk, without a name. */
static int disk_file(uint64_t pages) {
    char path[] = "/var/tmp/platform-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    unlink(path);
    assert_int_equal(ftruncate(file, (off_t)(pages * SMALL_PAGE)), 0);
    return file;
}

/* The sync tracker can't protect them, and says so in a way that a caller can refuse by. */
static void disk_refused(int file, bool shared) {
    struct target t;
    struct error err = { 0 };
    if (shared) {
        target_start_on(&t, file, 16, SMALL_PAGE);
    } else {
        target_start_private(&t, file, 16, SMALL_PAGE);
    }
    struct tracker *tracker = tracker_open(t.pid, TRACKER_SYNC, NULL, &err);
    assert_ok(tracker != NULL, &err);
    assert_int_equal(tracker_add(tracker, target_start_address(&t), target_end_address(&t), SMALL_PAGE, t.kind, &err),
                     -1);
    assert_int_equal(err.class, ERROR_REFUSED);
    assert_non_null(strstr(err.desc, "a file on a disk"));
    tracker_close(tracker);
    target_end(&t);
}

static void files_on_a_disk(void **state) {
    (void)state;
    if (has_tracker(TRACKER_ASYNC)) {
        same_rules(TRACKER_ASYNC, disk_file(16), SMALL_PAGE);
    }
    disk_refused(disk_file(16), false);
    disk_refused(disk_file(16), true);
}

/* A kernel before 5.19: private memory alone. */
static void before_markers(void **state) {
    (void)state;
    struct target t;
    struct error err = { 0 };
    setenv("GODWIT_FAULT", "no-wp-shmem", 1);
    same_rules(TRACKER_SYNC, -1, SMALL_PAGE);
    target_start(&t, 4, SMALL_PAGE);
    struct tracker *tracker = tracker_open(t.pid, TRACKER_SYNC, NULL, &err);
    assert_ok(tracker != NULL, &err);
    assert_int_equal(
        tracker_add(tracker, target_start_address(&t), target_end_address(&t), SMALL_PAGE, TRACKER_SHARED, &err), -1);
    assert_int_equal(err.class, ERROR_REFUSED);
    assert_non_null(strstr(err.desc, "Linux 5.19"));
    tracker_close(tracker);
    target_end(&t);
    unsetenv("GODWIT_FAULT");
}

#define SPARSE ((UINT64_C(2) << 30) / SMALL_PAGE)

/* Tracking and scanning gives holes neither memory nor page tables, and leaves them free for a huge page. */
static void holes_stay_holes(enum tracker_kind kind, int file) {
    struct target t;
    target_start_private(&t, file, SPARSE, SMALL_PAGE);
    assert_int_equal(target_ask(&t, TARGET_ADVISE_ALL, 0, MADV_HUGEPAGE), file < 0 ? 0 : 0);
    target_ask(&t, TARGET_WRITE, 0, 1);
    uint64_t tables = child_kib(t.pid, "status", "VmPTE"), memory = child_kib(t.pid, "status", "VmRSS");
    struct tracker *tracker = target_track(&t, kind);
    assert_found(&t, tracker, "");
    assert_true(child_kib(t.pid, "status", "VmPTE") <= tables + 16);
    assert_true(child_kib(t.pid, "status", "VmRSS") <= memory + 64);
    if (file < 0 && child_kib(t.pid, "smaps", "AnonHugePages") >= HUGE_PAGE / 1024) {
        uint64_t before = child_kib(t.pid, "smaps", "AnonHugePages");
        target_ask(&t, TARGET_WRITE, 512 * 100 + 7, 1);
        assert_int_equal(child_kib(t.pid, "smaps", "AnonHugePages"), before + HUGE_PAGE / 1024);
        assert_found(&t, tracker, "51200-51711");
    } else {
        target_ask(&t, TARGET_WRITE, 512 * 100 + 7, 1);
        assert_found(&t, tracker, "51207");
    }
    target_ask(&t, TARGET_WRITE, SPARSE - 1, 1);
    struct found found;
    target_scan(&t, tracker, &found);
    assert_true(bits_test(found.map, SPARSE - 1));
    found_end(&found);
    tracker_close(tracker);
    target_end(&t);
}

static void holes(enum tracker_kind kind) {
    holes_stay_holes(kind, -1);
    holes_stay_holes(kind, memfd_of(SPARSE * SMALL_PAGE, 0));
}
BOTH_KINDS(holes)

/* A write into a protected huge page is found as the small page that it is. */
static void huge_pages_are_exact(enum tracker_kind kind) {
    struct target t;
    target_start_private(&t, -1, 2048, SMALL_PAGE);
    target_ask(&t, TARGET_ADVISE_ALL, 0, MADV_HUGEPAGE);
    target_ask(&t, TARGET_FILL, 0, t.pages);
    if (child_kib(t.pid, "smaps", "AnonHugePages") < 8192) {
        target_end(&t);
        SKIP("this host gives no transparent huge pages");
    }
    struct tracker *tracker = target_track(&t, kind);
    assert_int_equal(child_kib(t.pid, "smaps", "AnonHugePages"), 8192);
    target_ask(&t, TARGET_WRITE, 1000, 1);
    target_ask(&t, TARGET_KERNEL_WRITE, 1002, 1);
    assert_found(&t, tracker, "1000 1002");
    assert_int_equal(child_kib(t.pid, "smaps", "AnonHugePages"), 6144);
    target_ask(&t, TARGET_WRITE, 1000, 2);
    assert_found(&t, tracker, "1000");
    /* and when it has become one again */
    target_ask(&t, TARGET_ADVISE_ALL, 0, MADV_COLLAPSE);
    target_ask(&t, TARGET_WRITE, 1500, 2);
    struct found found;
    target_scan(&t, tracker, &found);
    assert_true(bits_test(found.map, 1500));
    found_end(&found);
    tracker_close(tracker);
    target_end(&t);
}
BOTH_KINDS(huge_pages_are_exact)

/* One block, several mappings: what a policy for a part of it makes. */
static void several_mappings(enum tracker_kind kind) {
    struct target t;
    target_start_private(&t, -1, 64, SMALL_PAGE);
    target_ask(&t, TARGET_FILL, 0, 32);
    assert_int_equal(target_ask(&t, TARGET_ADVISE, 5, MADV_DONTDUMP), 0);
    assert_int_equal(target_ask(&t, TARGET_ADVISE, 20, MADV_DONTFORK), 0);
    assert_int_equal(target_ask(&t, TARGET_ADVISE, 40, MADV_DONTDUMP), 0);
    struct tracker *tracker = target_track(&t, kind);
    assert_found(&t, tracker, "");
    target_ask(&t, TARGET_FILL, 4, 3);
    target_ask(&t, TARGET_WRITE, 20, 1);
    target_ask(&t, TARGET_WRITE, 40, 1);
    assert_found(&t, tracker, "4-6 20 40");
    assert_found(&t, tracker, "");
    /* and made while it is tracked */
    assert_int_equal(target_ask(&t, TARGET_ADVISE, 10, MADV_DONTDUMP), 0);
    target_ask(&t, TARGET_FILL, 8, 5);
    assert_found(&t, tracker, "8-12");
    tracker_close(tracker);
    target_end(&t);
}
BOTH_KINDS(several_mappings)

/* ---- swap ---- */

static char swap_path[] = "/var/tmp/platform-swap-XXXXXX";

static bool swap_on(void) {
    static char header[4096];
    int file = mkstemp(swap_path);
    assert_true(file >= 0);
    assert_int_equal(fchmod(file, 0600), 0);
    for (int i = 0; i < 4096; i++) { /* 16 MiB without a hole */
        assert_int_equal(write(file, header, sizeof(header)), sizeof(header));
    }
    const uint32_t info[3] = { 1, 4095, 0 }; /* version, last page, bad pages */
    memcpy(header + 1024, info, sizeof(info));
    memcpy(header + sizeof(header) - 10, "SWAPSPACE2", 10);
    assert_int_equal(pwrite(file, header, sizeof(header), 0), sizeof(header));
    assert_int_equal(fsync(file), 0);
    close(file);
    return swapon(swap_path, 0) == 0;
}

static void swap_off(void) {
    swapoff(swap_path);
    unlink(swap_path);
    memcpy(strrchr(swap_path, '-') + 1, "XXXXXX", 6);
}

/* What a failed test left: no process of ours may be in that swap any more, or it would be read back. */
static int end(void **state) {
    if (strstr(swap_path, "XXXXXX") == NULL) {
        swap_off();
    }
    return platform_end(state);
}

static uint64_t swapped_pages(const struct target *t) {
    struct error err = { 0 };
    uint64_t entries[64], n = 0;
    int pagemap = pagemap_open(t->pid, &err);
    assert_true(pagemap >= 0 && t->pages <= 64);
    assert_ok(pagemap_read(pagemap, target_start_address(t), t->pages, entries, &err) == 0, &err);
    for (uint64_t i = 0; i < t->pages; i++) {
        n += (entries[i] & PAGEMAP_SWAPPED) != 0;
    }
    close(pagemap);
    return n;
}

/* What lies in swap keeps its protection there, and back again. */
static void swapped(enum tracker_kind kind) {
    if (!swap_on()) {
        swap_off();
        SKIP("no swap can be had here");
    }
    struct target t;
    target_start_private(&t, -1, 32, SMALL_PAGE);
    target_ask(&t, TARGET_FILL, 0, 32);
    target_ask(&t, TARGET_ADVISE_ALL, 0, MADV_PAGEOUT);
    uint64_t before = swapped_pages(&t);
    struct tracker *tracker = target_track(&t, kind); /* protected in swap */
    assert_found(&t, tracker, "");
    assert_int_equal(target_ask(&t, TARGET_READ, 3, 0), 4);
    target_ask(&t, TARGET_WRITE, 5, 9);
    assert_found(&t, tracker, "5");
    target_ask(&t, TARGET_ADVISE_ALL, 0, MADV_PAGEOUT);
    assert_found(&t, tracker, "");
    target_ask(&t, TARGET_WRITE, 5, 10); /* written, and in swap before the scan */
    target_ask(&t, TARGET_ADVISE_ALL, 0, MADV_PAGEOUT);
    uint64_t after = swapped_pages(&t);
    assert_found(&t, tracker, "5");
    assert_found(&t, tracker, "");
    tracker_close(tracker);
    target_end(&t);
    swap_off();
    assert_true(before > 16 && after > 16);
}
BOTH_KINDS(swapped)

/* ---- pages that are merged ---- */

#define KSM "/sys/kernel/mm/ksm/"

/* 0 also where there is no such file. */
static uint64_t read_number(const char *path) {
    unsigned long long n = 0;
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%llu", &n) != 1) {
            n = 0;
        }
        fclose(file);
    }
    return n;
}

static uint64_t ksm_number(const char *name) {
    char path[64];
    snprintf(path, sizeof(path), KSM "%s", name);
    return read_number(path);
}

static bool ksm_set(const char *name, uint64_t value) {
    char path[64];
    snprintf(path, sizeof(path), KSM "%s", name);
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return false;
    }
    fprintf(file, "%llu\n", (unsigned long long)value);
    return fclose(file) == 0;
}

static uint64_t merged_pages(const struct target *t) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/ksm_merging_pages", (int)t->pid);
    return read_number(path);
}

/* Merging takes the protection off a page; what is written after that is found all the same. */
static void merged(enum tracker_kind kind) {
    uint64_t run = ksm_number("run"), sleep_ms = ksm_number("sleep_millisecs"), to_scan = ksm_number("pages_to_scan");
    if (access(KSM "run", W_OK) != 0) {
        SKIP("this kernel merges no pages");
    }
    struct target t;
    target_start_private(&t, -1, 32, SMALL_PAGE);
    for (uint64_t i = 0; i < 32; i++) {
        target_ask(&t, TARGET_WRITE, i, 5);
    }
    struct tracker *tracker = target_track(&t, kind);
    target_ask(&t, TARGET_ADVISE_ALL, 0, MADV_MERGEABLE);
    ksm_set("sleep_millisecs", 1);
    ksm_set("pages_to_scan", 10000);
    ksm_set("run", 1);
    int64_t end = clock_now() + 40 * CLOCK_S;
    while (merged_pages(&t) < 16 && clock_now() < end) {
        clock_sleep(10 * CLOCK_MS);
    }
    uint64_t n = merged_pages(&t);
    ksm_set("run", run);
    ksm_set("pages_to_scan", to_scan);
    ksm_set("sleep_millisecs", sleep_ms);
    struct found found;
    target_scan(&t, tracker, &found); /* may report what was merged: more, never less */
    found_end(&found);
    assert_found(&t, tracker, "");
    target_ask(&t, TARGET_WRITE, 7, 6);
    target_ask(&t, TARGET_KERNEL_WRITE, 9, 6);
    assert_found(&t, tracker, "7 9");
    assert_int_equal(target_ask(&t, TARGET_READ, 8, 0), 5);
    tracker_close(tracker);
    target_end(&t);
    if (n == 0) {
        SKIP("the kernel has merged nothing in 40 s");
    }
}
BOTH_KINDS(merged)

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH_TESTS(anonymous),
        BOTH_TESTS(anonymous_huge),
        BOTH_TESTS(copies_of_a_file),
        BOTH_TESTS(copies_of_a_huge_file),
        cmocka_unit_test(files_on_a_disk),
        cmocka_unit_test(before_markers),
        BOTH_TESTS(holes),
        BOTH_TESTS(huge_pages_are_exact),
        BOTH_TESTS(several_mappings),
        BOTH_TESTS(swapped),
        BOTH_TESTS(merged),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
