/* SPDX-License-Identifier: Apache-2.0 */
/* Both trackers against a process that writes where it is told to: exactly those pages, whatever is under them. */
#include "support.h"

#include "base/bits.h"
#include "base/clock.h"
#include "host/process.h"
#include "remote/remote.h"
#include "remote/uapi.h"
#include "track/kernel.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void known_pages(enum tracker_kind kind, uint64_t pages, uint64_t page_size) {
    struct target t;
    target_start(&t, pages, page_size);
    target_ask(&t, TARGET_WRITE, 0, 1);
    target_ask(&t, TARGET_WRITE, 3, 1);
    struct tracker *tracker = target_track(&t, kind);
    assert_found(&t, tracker, "");
    target_ask(&t, TARGET_WRITE, 3, 2);
    assert_found(&t, tracker, "3");
    assert_found(&t, tracker, "");
    target_ask(&t, TARGET_KERNEL_WRITE, 4, 2);
    assert_found(&t, tracker, "4");
    /* a page that was a hole so far; twice, of which once unseen */
    target_ask(&t, TARGET_WRITE, 7, 3);
    target_ask(&t, TARGET_KERNEL_WRITE, 7, 4);
    target_ask(&t, TARGET_WRITE, 0, 5);
    target_ask(&t, TARGET_WRITE, 1, 5);
    assert_found(&t, tracker, "0-1 7");
    target_ask(&t, TARGET_WRITE, 1, 6);
    assert_found(&t, tracker, "1");
    /* reading is no writing */
    assert_int_equal(target_ask(&t, TARGET_READ, 7, 0), 4);
    assert_int_equal(target_ask(&t, TARGET_READ, 4, 0), 2);
    assert_found(&t, tracker, "");
    tracker_close(tracker);
    target_end(&t);
}

static void known_small_pages(enum tracker_kind kind) {
    known_pages(kind, 64, SMALL_PAGE);
}
BOTH_KINDS(known_small_pages)

static void known_huge_pages(enum tracker_kind kind) {
    known_pages(kind, 8, HUGE_PAGE);
}
BOTH_KINDS(known_huge_pages)

/* 3 GiB, nearly all of it holes and without page tables: several slices, and nothing gets memory by being tracked. */
static void large_and_sparse(enum tracker_kind kind) {
    struct target t;
    const uint64_t pages = (UINT64_C(3) << 30) / SMALL_PAGE;
    target_start(&t, pages, SMALL_PAGE);
    target_ask(&t, TARGET_WRITE, 0, 1);
    int64_t begin = clock_now();
    struct tracker *tracker = target_track(&t, kind);
    int64_t tracked = clock_now();
    assert_found(&t, tracker, "");
    int64_t scanned = clock_now();
    print_message("3 GiB: attach and first scan %.1f ms, a scan that finds nothing %.2f ms\n",
                  (double)(tracked - begin) / 1e6, (double)(scanned - tracked) / 1e6);
    target_ask(&t, TARGET_WRITE, pages - 1, 1);
    target_ask(&t, TARGET_WRITE, 262143, 1);
    target_ask(&t, TARGET_WRITE, 262144, 1);
    target_ask(&t, TARGET_WRITE, 500000, 1);
    assert_found(&t, tracker, "262143-262144 500000 786431");
    struct stat st;
    assert_int_equal(fstat(t.file, &st), 0);
    assert_int_equal(st.st_blocks * 512 / (blkcnt_t)SMALL_PAGE, 5);
    tracker_close(tracker);
    target_end(&t);
}
BOTH_KINDS(large_and_sparse)

/* More regions than fit into one call or slice. */
static void every_other_page(enum tracker_kind kind) {
    struct target t;
    const uint64_t pages = 60000;
    target_start(&t, pages, SMALL_PAGE);
    struct tracker *tracker = target_track(&t, kind);
    for (uint64_t i = 0; i < pages; i += 2) {
        target_ask(&t, TARGET_WRITE, i, i + 1);
    }
    struct found found;
    target_scan(&t, tracker, &found);
    for (uint64_t i = 0; i < pages; i++) {
        assert_int_equal(bits_test(found.map, i), i % 2 == 0);
    }
    found_end(&found);
    assert_found(&t, tracker, "");
    tracker_close(tracker);
    target_end(&t);
}
BOTH_KINDS(every_other_page)

static void note_pages(void *opaque, uint64_t start, uint64_t end) {
    *(uint64_t *)opaque += (end - start) / SMALL_PAGE;
}

/* Two ranges in one tracker, scanned in parts; nonsense is refused. */
static void parts_of_ranges(enum tracker_kind kind) {
    struct target t;
    struct error err = { 0 };
    target_start(&t, 32, SMALL_PAGE);
    uint64_t start = target_start_address(&t), n = 0;
    struct tracker *tracker = tracker_open(t.pid, kind, NULL, &err);
    assert_ok(tracker != NULL, &err);
    assert_ok(tracker_add(tracker, start, start + 8 * SMALL_PAGE, SMALL_PAGE, TRACKER_SHARED, &err) == 0, &err);
    assert_ok(
        tracker_add(tracker, start + 16 * SMALL_PAGE, start + 32 * SMALL_PAGE, SMALL_PAGE, TRACKER_SHARED, &err) == 0,
        &err);
    assert_ok(tracker_scan(tracker, start, start + 4 * SMALL_PAGE, note_pages, &n, &err) == 0, &err);
    assert_int_equal(n, 4);
    target_ask(&t, TARGET_WRITE, 2, 1);
    target_ask(&t, TARGET_WRITE, 9, 1);
    target_ask(&t, TARGET_WRITE, 20, 1);
    n = 0;
    assert_ok(tracker_scan(tracker, start + 3 * SMALL_PAGE, start + 8 * SMALL_PAGE, note_pages, &n, &err) == 0, &err);
    assert_int_equal(n, 4);
    n = 0;
    assert_ok(tracker_scan(tracker, start, start + 8 * SMALL_PAGE, note_pages, &n, &err) == 0, &err);
    assert_int_equal(n, 1);
    assert_int_equal(tracker_scan(tracker, start, start + 9 * SMALL_PAGE, note_pages, &n, &err), -1);
    error_clear(&err);
    assert_int_equal(tracker_scan(tracker, start, start + 100, note_pages, &n, &err), -1);
    error_clear(&err);
    assert_int_equal(tracker_add(tracker, start, start, SMALL_PAGE, TRACKER_SHARED, &err), -1);
    error_clear(&err);
    assert_int_equal(tracker_add(tracker, start + 1, start + SMALL_PAGE, SMALL_PAGE, TRACKER_SHARED, &err), -1);
    tracker_close(tracker);
    target_end(&t);
}
BOTH_KINDS(parts_of_ranges)

/* tmpfs with transparent huge pages: the sync tracker splits them and stays exact. The async one protects a huge page
 * whole, and any write to it reports all of it: as coarse as hugetlb, but nothing is lost. */
static void transparent_huge_pages(enum tracker_kind kind) {
    int file = file_on("tmpfs", "huge=always,size=64m");
    if (file < 0) {
        SKIP("tmpfs with huge=always cannot be mounted");
    }
    struct target t;
    target_start_on(&t, file, 2048, SMALL_PAGE);
    for (uint64_t i = 0; i < t.pages; i++) {
        target_ask(&t, TARGET_WRITE, i, i);
    }
    struct tracker *tracker = target_track(&t, kind);
    assert_found(&t, tracker, "");
    target_ask(&t, TARGET_WRITE, 1000, 1);
    target_ask(&t, TARGET_KERNEL_WRITE, 1002, 1);
    struct found found;
    target_scan(&t, tracker, &found);
    print_message("written 1000 1002, found %s\n", found_text(&found));
    assert_true(bits_test(found.map, 1000) && bits_test(found.map, 1002));
    if (kind == TRACKER_SYNC) {
        assert_int_equal(bits_count(found.map, found.pages), 2);
    }
    found_end(&found);
    target_ask(&t, TARGET_WRITE, 1000, 2);
    target_scan(&t, tracker, &found);
    assert_true(bits_test(found.map, 1000));
    found_end(&found);
    assert_found(&t, tracker, "");
    tracker_close(tracker);
    target_end(&t);
}
BOTH_KINDS(transparent_huge_pages)

/* After closing, the process is as it was: no descriptor, no tracer, no protection. */
static void closing_leaves_nothing(enum tracker_kind kind) {
    struct target t;
    struct error err = { 0 };
    char link[64];
    target_start(&t, 64, SMALL_PAGE);
    target_ask(&t, TARGET_READ, 0, 0); /* it is up: its descriptors are all there */
    unsigned descriptors = child_count_descriptors(t.pid);
    struct tracker *tracker = target_track(&t, kind);
    assert_int_equal(child_count_descriptors(t.pid), descriptors);
    tracker_close(tracker);
    assert_int_equal(child_count_descriptors(t.pid), descriptors);
    assert_int_equal(process_find_descriptor(t.pid, "anon_inode:[userfaultfd]", link, sizeof(link), &err), 0);
    assert_int_equal(process_tracer(t.pid, &err), 0);
    for (uint64_t i = 0; i < t.pages; i++) {
        assert_int_equal(target_ask(&t, TARGET_WRITE, i, i), 0);
    }
    /* and it can be tracked again, by either kind */
    if (has_tracker(TRACKER_ASYNC)) {
        tracker_close(target_track(&t, TRACKER_ASYNC));
    }
    tracker_close(target_track(&t, TRACKER_SYNC));
    target_end(&t);
}
BOTH_KINDS(closing_leaves_nothing)

static void second_tracker_is_refused(enum tracker_kind kind) {
    struct target t;
    struct error err = { 0 };
    target_start(&t, 16, SMALL_PAGE);
    struct tracker *tracker = target_track(&t, kind), *second = tracker_open(t.pid, kind, NULL, &err);
    assert_ok(second != NULL, &err);
    assert_int_equal(
        tracker_add(second, target_start_address(&t), target_end_address(&t), SMALL_PAGE, TRACKER_SHARED, &err), -1);
    assert_int_equal(err.class, ERROR_REFUSED);
    assert_non_null(strstr(err.desc, "another userfaultfd"));
    tracker_close(second);
    target_ask(&t, TARGET_WRITE, 5, 1);
    assert_found(&t, tracker, "5");
    tracker_close(tracker);
    target_end(&t);
}
BOTH_KINDS(second_tracker_is_refused)

static void ended_process_is_an_error(enum tracker_kind kind) {
    struct target t;
    struct error err = { 0 };
    uint64_t n = 0;
    target_start(&t, 16, SMALL_PAGE);
    struct tracker *tracker = target_track(&t, kind);
    target_ask(&t, TARGET_WRITE, 5, 1);
    kill(t.pid, SIGKILL);
    waitid(P_PID, (id_t)t.pid, NULL, WEXITED | WNOWAIT);
    assert_int_equal(tracker_scan(tracker, target_start_address(&t), target_end_address(&t), note_pages, &n, &err), -1);
    assert_true(error_is_set(&err));
    print_message("%s\n", err.desc);
    tracker_close(tracker);
    target_end(&t);
}
BOTH_KINDS(ended_process_is_an_error)

struct tracking {
    const struct target *target;
    enum tracker_kind kind;
    int ready;
};

static void track_until_killed(void *opaque) {
    const struct tracking *tracking = opaque;
    struct error err = { 0 };
    const struct target *t = tracking->target;
    uint64_t n = 0;
    struct tracker *tracker = tracker_open(t->pid, tracking->kind, NULL, &err);
    if (tracker == NULL ||
        tracker_add(tracker, target_start_address(t), target_end_address(t), t->page_size, TRACKER_SHARED, &err) < 0 ||
        tracker_scan(tracker, target_start_address(t), target_end_address(t), note_pages, &n, &err) < 0) {
        _exit(1);
    }
    if (write(tracking->ready, "", 1) != 1) {
        _exit(1);
    }
    for (;;) {
        tracker_scan(tracker, target_start_address(t), target_end_address(t), note_pages, &n, &err);
    }
}

/* The kernel cleans up after a tracker that is killed while it scans. */
static void killed_tracker(enum tracker_kind kind) {
    struct target t;
    struct error err = { 0 };
    target_start(&t, 256, SMALL_PAGE);
    for (int round = 0; round < 10; round++) {
        int ready[2];
        char byte;
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        struct tracking tracking = { .target = &t, .kind = kind, .ready = ready[1] };
        pid_t tracker = child_start(track_until_killed, &tracking);
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        for (uint64_t i = 0; i < t.pages / 2; i++) {
            target_ask(&t, TARGET_WRITE, i, i);
        }
        child_end(tracker);
        close(ready[0]);
        for (uint64_t i = 0; i < t.pages; i++) {
            assert_int_equal(target_ask(&t, TARGET_WRITE, i, i), 0);
        }
        assert_int_equal(process_tracer(t.pid, &err), 0);
    }
    tracker_close(target_track(&t, kind));
    target_end(&t);
}
BOTH_KINDS(killed_tracker)

struct unprivileged {
    const uint8_t *memory;
    int ready;
};

static void run_unprivileged(void *opaque) {
    const struct unprivileged *u = opaque;
    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0 || write(u->ready, "", 1) != 1) {
        _exit(1);
    }
    for (;;) {
        pause();
    }
}

/* A QEMU without capabilities: the async tracker works, where there is one; the sync one says what it needs. */
static void unprivileged_target(void **state) {
    (void)state;
    int ready[2];
    char byte;
    struct error err = { 0 };
    if (geteuid() != 0) {
        SKIP("not root");
    }
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    uint8_t *memory = shared_alloc(16 * SMALL_PAGE);
    struct unprivileged u = { .memory = memory, .ready = ready[1] };
    pid_t pid = child_start(run_unprivileged, &u);
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    if (has_tracker(TRACKER_ASYNC)) {
        struct tracker *tracker = tracker_open(pid, TRACKER_ASYNC, NULL, &err);
        assert_ok(tracker != NULL, &err);
        uint64_t start = (uintptr_t)memory;
        assert_ok(tracker_add(tracker, start, start + 16 * SMALL_PAGE, SMALL_PAGE, TRACKER_SHARED, &err) == 0, &err);
        tracker_close(tracker);
    }

    struct kernel_features k;
    kernel_probe(&k);
    struct tracker *tracker = tracker_open(pid, TRACKER_SYNC, NULL, &err);
    if (k.unprivileged_uffd) {
        assert_ok(tracker != NULL, &err);
    } else {
        assert_null(tracker);
        assert_int_equal(err.class, ERROR_REFUSED);
        assert_non_null(strstr(err.desc, "vm.unprivileged_userfaultfd=1"));
    }
    tracker_close(tracker);
    child_end(pid);
    shared_free(memory, 16 * SMALL_PAGE);
}

static void automatic_choice(void **state) {
    (void)state;
    static const struct {
        const char *fault;
        enum tracker_kind kind;
    } cases[] = {
        { "none", TRACKER_ASYNC },
        { "no-wp-async", TRACKER_SYNC },
        { "no-pagemap-scan", TRACKER_SYNC },
        { "no-wp-async,no-wp-shmem", TRACKER_SYNC },
        { "no-wp-async,no-wp-anon", TRACKER_SYNC },
        { "no-wp-async,no-wp-shmem,no-wp-anon", TRACKER_AUTO },
        { "no-userfaultfd", TRACKER_AUTO },
        { "no-ptrace", TRACKER_AUTO },
        { "no-pidfd-getfd", TRACKER_AUTO },
    };
    struct kernel_features k;
    kernel_probe(&k);
    if (kernel_tracker(&k) != TRACKER_ASYNC) {
        SKIP("this kernel has no async tracker to choose");
    }
    struct target t;
    target_start(&t, 4, SMALL_PAGE);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = { 0 };
        setenv("GODWIT_FAULT", cases[i].fault, 1);
        struct tracker *tracker = tracker_open(t.pid, TRACKER_AUTO, NULL, &err);
        unsetenv("GODWIT_FAULT");
        if (cases[i].kind == TRACKER_AUTO) {
            assert_null(tracker);
            assert_int_equal(err.class, ERROR_REFUSED);
            assert_non_null(strstr(err.desc, "Linux 5.19"));
            continue;
        }
        assert_ok(tracker != NULL, &err);
        assert_int_equal(tracker_kind(tracker), cases[i].kind);
        assert_true(tracker_stopped_ns(tracker) > 0);
        tracker_close(tracker);
    }
    target_end(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH_TESTS(known_small_pages),         BOTH_TESTS(known_huge_pages),
        BOTH_TESTS(large_and_sparse),          BOTH_TESTS(every_other_page),
        BOTH_TESTS(parts_of_ranges),           BOTH_TESTS(transparent_huge_pages),
        BOTH_TESTS(closing_leaves_nothing),    BOTH_TESTS(second_tracker_is_refused),
        BOTH_TESTS(ended_process_is_an_error), BOTH_TESTS(killed_tracker),
        cmocka_unit_test(unprivileged_target), cmocka_unit_test(automatic_choice),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
