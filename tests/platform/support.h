/* SPDX-License-Identifier: Apache-2.0 */
/* What the platform tests share: processes to attach to, and the pages that a tracker found. */
#ifndef GODWIT_TESTS_PLATFORM_SUPPORT_H
#define GODWIT_TESTS_PLATFORM_SUPPORT_H

#include "../support/check.h"

#include "track/tracker.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/types.h>

#define SMALL_PAGE UINT64_C(4096)
#define HUGE_PAGE (UINT64_C(2) << 20)

/* Whether this kernel has such a tracker. */
bool has_tracker(enum tracker_kind kind);
/* Skips the test when it has none. */
void needs_tracker(enum tracker_kind kind);

/* Whether this kernel has PAGEMAP_SCAN (Linux 6.7), and no fault takes it away. */
bool has_scan(void);

/* Skips a test that measures shares of time on a machine where time means little: GODWIT_PATIENCE is set there. */
void needs_steady_time(void);

/* For test functions: one for each kind of tracker out of `static void NAME(enum tracker_kind)`. */
#define BOTH_KINDS(name)                                                                                               \
    static void name##_async(void **state) {                                                                           \
        (void)state;                                                                                                   \
        needs_tracker(TRACKER_ASYNC);                                                                                  \
        name(TRACKER_ASYNC);                                                                                           \
    }                                                                                                                  \
    static void name##_sync(void **state) {                                                                            \
        (void)state;                                                                                                   \
        needs_tracker(TRACKER_SYNC);                                                                                   \
        name(TRACKER_SYNC);                                                                                            \
    }
#define BOTH_TESTS(name) cmocka_unit_test(name##_async), cmocka_unit_test(name##_sync)

/* A process of ours that runs `run(opaque)` and ends; it dies with us. */
pid_t child_start(void (*run)(void *opaque), void *opaque);
/* Kills it and waits. */
void child_end(pid_t pid);
bool child_is_alive(pid_t pid);
/* Its state in /proc/PID/stat: 'S', 'T' … */
char child_state(pid_t pid);
/* Waits until the child is in that state. */
void child_wait_state(pid_t pid, char state);
unsigned child_count_descriptors(pid_t pid);

/* Memory that this process and its children share. */
void *shared_alloc(size_t size);
void shared_free(void *memory, size_t size);

/* Adds 2 MiB pages to the host's pool, so that `pages` are free; false when the host has none to give. What was added
 * goes away with hugepages_release(). */
bool hugepages_reserve(unsigned pages);
void hugepages_release(void);

/* Teardown of a group: what a failed test left undone on the host. Its processes end with ours. */
int platform_end(void **state);

/* A nameless file on a fresh file system, which goes away with it; -1 when it cannot be mounted. */
int file_on(const char *type, const char *options);

enum target_op {
    TARGET_WRITE,        /* its own instructions write `value` into the page */
    TARGET_KERNEL_WRITE, /* the kernel does, in a read(2) of the target's */
    TARGET_READ,         /* answers what is in the page */
    TARGET_REMOVE,       /* madvise(MADV_REMOVE) on `value` pages */
    TARGET_DONTNEED,     /* madvise(MADV_DONTNEED) on `value` pages */
    TARGET_UNMAP,        /* munmap() of one page */
    TARGET_ADVISE,       /* madvise(value) on one page */
    TARGET_ADVISE_ALL,   /* on all of its memory */
    TARGET_FILL,         /* writes into all of it, a page at a time, from `page` on, `value` pages */
};

/* A process with shared memory that writes where it is told to. The memory is at the same address in both processes,
 * each through its own mapping. */
struct target {
    pid_t pid;
    int file; /* behind the memory */
    uint8_t *memory;
    uint64_t page_size, pages;
    int ask, answer; /* pipes */
    enum tracker_memory kind;
};

/* Skips the test when there are no huge pages for it. */
void target_start(struct target *t, uint64_t pages, uint64_t page_size);
/* On a file of the caller's, which the target then owns. */
void target_start_on(struct target *t, int file, uint64_t pages, uint64_t page_size);
/* Private memory: anonymous, or, with a file, private copies of that, which stays as it is. Small pages unless it is
 * advised otherwise; starts at a multiple of HUGE_PAGE. */
void target_start_private(struct target *t, int file, uint64_t pages, uint64_t page_size);
/* What `field` ("AnonHugePages", "VmPTE", …) of /proc/PID/`file` comes to over all that it tells, KiB. */
uint64_t child_kib(pid_t pid, const char *file, const char *field);
int64_t target_ask(const struct target *t, enum target_op op, uint64_t page, uint64_t value);
void target_end(struct target *t);

static inline uint64_t target_start_address(const struct target *t) {
    return (uint64_t)(uintptr_t)t->memory;
}

static inline uint64_t target_end_address(const struct target *t) {
    return (uint64_t)(uintptr_t)t->memory + t->pages * t->page_size;
}

/* What scans of a target found. */
struct found {
    uint64_t start, page_size;
    uint64_t *map; /* a bit a page */
    uint64_t pages, last_end;
};

/* A tracked target; its first scan is done. */
struct tracker *target_track(const struct target *t, enum tracker_kind kind);
/* Scans all of it. The caller frees with found_end(). Fails the test on an error or on runs out of order. */
void target_scan(const struct target *t, struct tracker *tracker, struct found *found);
void found_end(struct found *found);
/* The found pages as text, "0-2 7": what a failed comparison should show. In a static buffer. */
const char *found_text(const struct found *found);

/* Scans and compares. */
#define assert_found(target, tracker, text)                                                                            \
    do {                                                                                                               \
        struct found found_;                                                                                           \
        target_scan(target, tracker, &found_);                                                                         \
        assert_string_equal(found_text(&found_), text);                                                                \
        found_end(&found_);                                                                                            \
    } while (0)

#endif
