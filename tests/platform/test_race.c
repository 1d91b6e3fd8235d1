/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No write is lost, whenever it comes. A process writes as fast as it can, with its own instructions and through the
 * kernel, while we scan and copy without pause. When it has stopped, one more scan and copy must make the copy equal.
 */
#include "support.h"

#include "base/clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WRITERS 3
/* It goes on for this long, and until there were as many writes and scans. */
#define DURATION CLOCK_S
#define WRITES_MIN 20000
#define SCANS_MIN 10
#define BURST 64
/* Of memory that is private a part is left to pages that are written once, and not again. */
#define STORMY_PAGES(t) ((t)->kind == TRACKER_PRIVATE ? (t)->pages / 2 : (t)->pages)
#define WORDS(t) (STORMY_PAGES(t) * (t)->page_size / sizeof(uint64_t))

/* Shared with the child, which is full of threads. */
struct storm {
    struct target target;
    atomic_bool stop;
    atomic_uint stopped;
    atomic_ullong writes;
};

static uint64_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 16;
}

struct writer {
    struct storm *storm;
    unsigned number;
};

static void *write_randomly(void *opaque) {
    const struct writer *me = opaque;
    struct storm *s = me->storm;
    const struct target *t = &s->target;
    uint64_t random = me->number + 1, count = 0;
    int source = memfd_create("source", MFD_CLOEXEC);
    while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
        /* each its own words, so that what is last is told by the process alone */
        uint64_t word = next_random(&random) % (WORDS(t) / WRITERS) * WRITERS + me->number;
        _Atomic uint64_t *place = (_Atomic uint64_t *)(void *)t->memory + word;
        count++;
        if (me->number == 0) {
            uint64_t value = count;
            if (pwrite(source, &value, sizeof(value), 0) != sizeof(value) ||
                pread(source, (void *)place, sizeof(value), 0) != sizeof(value)) {
                _exit(3); /* EFAULT: a fault in the kernel was not served */
            }
        } else {
            atomic_store_explicit(place, count, memory_order_relaxed);
        }
        if (count % BURST == 0) {
            atomic_fetch_add(&s->writes, BURST);
            /* a pause, or two cores would be too few for a scan to come between two writes */
            clock_sleep(CLOCK_MS / 20);
        }
    }
    atomic_fetch_add(&s->stopped, 1);
    return NULL;
}

/* Pages that nobody has touched before, one after the other, each once: a first touch that is lost stays lost. */
static void *touch_once(void *opaque) {
    struct storm *s = opaque;
    const struct target *t = &s->target;
    for (uint64_t page = STORMY_PAGES(t); page < t->pages && !atomic_load_explicit(&s->stop, memory_order_relaxed);
         page++) {
        *(volatile uint64_t *)(void *)(t->memory + page * t->page_size) = page;
        clock_sleep(CLOCK_MS / 10);
    }
    atomic_fetch_add(&s->stopped, 1);
    return NULL;
}

static void run_storm(void *opaque) {
    struct storm *s = opaque;
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS], once;
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){ .storm = s, .number = i };
        if (pthread_create(&threads[i], NULL, write_randomly, &writers[i]) != 0) {
            _exit(4);
        }
    }
    if (pthread_create(&once, NULL, touch_once, s) != 0) {
        _exit(4);
    }
    for (;;) {
        pause();
    }
}

struct copy {
    const struct target *target;
    uint8_t *memory;
    uint64_t pages;
    int source; /* /proc/PID/mem: what is private to the process is seen there alone */
};

static void copy_out(const struct copy *copy, uint64_t offset, uint64_t size, uint8_t *to) {
    assert_int_equal(pread(copy->source, to, size, (off_t)(target_start_address(copy->target) + offset)), size);
}

static void copy_run(void *opaque, uint64_t start, uint64_t end) {
    struct copy *copy = opaque;
    uint64_t offset = start - target_start_address(copy->target);
    copy_out(copy, offset, end - start, copy->memory + offset);
    copy->pages += (end - start) / copy->target->page_size;
}

static void scan_and_copy(struct tracker *tracker, struct copy *copy) {
    struct error err = { 0 };
    assert_ok(tracker_scan(tracker, target_start_address(copy->target), target_end_address(copy->target), copy_run,
                           copy, &err) == 0,
              &err);
    assert_ok(tracker_check(tracker, &err) == 0, &err);
}

/* On `file`, or -1 for an anonymous one with pages of that size. Private: anonymous memory, in small pages. */
static void storm_memory(struct target *t, enum tracker_memory memory, int file, uint64_t pages, uint64_t page_size) {
    bool huge = page_size != SMALL_PAGE;
    if (huge && !hugepages_reserve((unsigned)pages)) {
        hugepages_release();
        SKIP("%u free huge pages cannot be had", (unsigned)pages);
    }
    *t = (struct target){ .file = file, .pages = pages, .page_size = page_size, .kind = memory };
    if (memory == TRACKER_PRIVATE) {
        t->memory = mmap(NULL, pages * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(t->memory != MAP_FAILED);
        madvise(t->memory, pages * page_size, MADV_NOHUGEPAGE); /* huge ones leave few first touches */
        return;
    }
    if (file < 0) {
        t->file = memfd_create("storm", MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0));
    }
    assert_int_equal(ftruncate(t->file, (off_t)(pages * page_size)), 0);
    t->memory = mmap(NULL, pages * page_size, PROT_READ | PROT_WRITE, MAP_SHARED, t->file, 0);
    assert_true(t->memory != MAP_FAILED);
}

static void storm_on(enum tracker_kind kind, enum tracker_memory memory, int file, uint64_t pages, uint64_t page_size) {
    struct storm *s = shared_alloc(sizeof(*s));
    struct target *t = &s->target;
    storm_memory(t, memory, file, pages, page_size);
    struct copy copy = { .target = t, .memory = calloc(pages, page_size) };
    assert_non_null(copy.memory);
    t->pid = child_start(run_storm, s);
    char path[48];
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)t->pid);
    copy.source = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(copy.source >= 0);
    struct error err = { 0 };
    struct tracker *tracker = tracker_open(t->pid, kind, NULL, &err);
    assert_ok(tracker != NULL, &err);
    assert_ok(tracker_add(tracker, target_start_address(t), target_end_address(t), page_size, memory, &err) == 0, &err);
    unsigned scans = 0;
    int64_t end = clock_now() + DURATION;
    for (; clock_now() < end || scans < SCANS_MIN || atomic_load(&s->writes) < WRITES_MIN; scans++) {
        assert_true(child_is_alive(t->pid));
        scan_and_copy(tracker, &copy);
    }
    atomic_store(&s->stop, true);
    while (atomic_load(&s->stopped) < WRITERS + 1) {
        assert_true(child_is_alive(t->pid));
        clock_sleep(CLOCK_MS);
    }
    unsetenv("GODWIT_FAULT"); /* what went wrong so far is to be made good by now */
    scan_and_copy(tracker, &copy);
    uint8_t *last = malloc(pages * page_size);
    assert_non_null(last);
    copy_out(&copy, 0, pages * page_size, last);
    assert_memory_equal(copy.memory, last, pages * page_size);
    free(last);
    print_message("%u scans, %llu pages copied, %llu writes\n", scans, (unsigned long long)copy.pages,
                  (unsigned long long)atomic_load(&s->writes));
    uint64_t before = copy.pages;
    scan_and_copy(tracker, &copy);
    assert_int_equal(copy.pages, before);
    tracker_close(tracker);
    child_end(t->pid);
    close(copy.source);
    munmap(t->memory, pages * page_size);
    if (t->file >= 0) {
        close(t->file);
    }
    free(copy.memory);
    shared_free(s, sizeof(*s));
    hugepages_release();
}

static void storm(enum tracker_kind kind, int file, uint64_t pages, uint64_t page_size) {
    storm_on(kind, TRACKER_SHARED, file, pages, page_size);
}

/* Few pages: every scan meets a write to the page that it is about to protect. */
static void few_pages(enum tracker_kind kind) {
    storm(kind, -1, 16, SMALL_PAGE);
}
BOTH_KINDS(few_pages)

/* Several slices of the sync tracker. */
static void many_pages(enum tracker_kind kind) {
    storm(kind, -1, 40000, SMALL_PAGE);
}
BOTH_KINDS(many_pages)

static void huge_pages(enum tracker_kind kind) {
    storm(kind, -1, 8, HUGE_PAGE);
}
BOTH_KINDS(huge_pages)

/* Huge pages that are split, and come again, behind everybody's back. */
static void transparent_huge_pages(enum tracker_kind kind) {
    int file = file_on("tmpfs", "huge=always,size=32m");
    if (file < 0) {
        SKIP("tmpfs with huge=always cannot be mounted");
    }
    storm(kind, file, 4096, SMALL_PAGE);
}
BOTH_KINDS(transparent_huge_pages)

/* All of it is touched for the first time while it is scanned. */
static void private_pages(enum tracker_kind kind) {
    storm_on(kind, TRACKER_PRIVATE, -1, 40000, SMALL_PAGE);
}
BOTH_KINDS(private_pages)

static void few_private_pages(enum tracker_kind kind) {
    storm_on(kind, TRACKER_PRIVATE, -1, 16, SMALL_PAGE);
}
BOTH_KINDS(few_private_pages)

/* As Linux before 6.5 may do with a huge page: the call says that it has protected, and has not. */
static void protection_that_is_left_out(void **state) {
    (void)state;
    needs_tracker(TRACKER_SYNC);
    setenv("GODWIT_FAULT", "protect-skips=3", 1);
    storm(TRACKER_SYNC, -1, 16, SMALL_PAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH_TESTS(few_pages),
        BOTH_TESTS(many_pages),
        BOTH_TESTS(huge_pages),
        BOTH_TESTS(transparent_huge_pages),
        cmocka_unit_test(protection_that_is_left_out),
        BOTH_TESTS(private_pages),
        BOTH_TESTS(few_private_pages),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
