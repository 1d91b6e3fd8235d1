/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "host/pagemap.h"
#include "track/kernel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Locked while we need huge pages: two test programs at a time would take each other's. -1: not held. */
static int hugepages_lock = -1;

pid_t child_start(void (*run)(void *opaque), void *opaque) {
    pid_t parent = getpid();
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* cmocka's handlers would go on with the next test in this process */
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        if (hugepages_lock >= 0) {
            close(hugepages_lock); /* a child that a failed test left would go on holding it */
        }
        if (getppid() == parent) {
            run(opaque);
        }
        _exit(0);
    }
    return pid;
}

void child_end(pid_t pid) {
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

char child_state(pid_t pid) {
    char path[48], text[256] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return '\0';
    }
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = '\0';
    const char *end = strrchr(text, ')');
    return end != NULL && end[1] == ' ' ? end[2] : '\0';
}

bool child_is_alive(pid_t pid) {
    char state = child_state(pid);
    return state != '\0' && state != 'Z' && state != 'X';
}

void child_wait_state(pid_t pid, char state) {
    while (child_state(pid) != state) {
        assert_true(child_is_alive(pid));
        clock_sleep(CLOCK_MS);
    }
}

unsigned child_count_descriptors(pid_t pid) {
    char path[48];
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    unsigned n = 0;
    while (readdir(dir) != NULL) {
        n++;
    }
    closedir(dir);
    return n;
}

void *shared_alloc(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    return memory;
}

void shared_free(void *memory, size_t size) {
    munmap(memory, size);
}

#define HUGE_DIRECTORY "/sys/kernel/mm/hugepages/hugepages-2048kB/"

static long hugepages_added;

static long hugepages_read(const char *name) {
    char path[96];
    long value = -1;
    snprintf(path, sizeof(path), HUGE_DIRECTORY "%s", name);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%ld", &value) != 1) {
            value = -1;
        }
        fclose(file);
    }
    return value;
}

static bool hugepages_change(long by) {
    FILE *file = fopen(HUGE_DIRECTORY "nr_hugepages", "we");
    if (file == NULL) {
        return false;
    }
    fprintf(file, "%ld\n", hugepages_read("nr_hugepages") + by);
    return fclose(file) == 0;
}

bool hugepages_reserve(unsigned pages) {
    if (hugepages_lock < 0) {
        hugepages_lock = open(HUGE_DIRECTORY "nr_hugepages", O_RDONLY | O_CLOEXEC);
        flock(hugepages_lock, LOCK_EX);
    }
    long before = hugepages_read("nr_hugepages"), available = hugepages_read("free_hugepages");
    if (before < 0 || available < 0) {
        return false;
    }
    if (available >= (long)pages) {
        return true;
    }
    hugepages_change((long)pages - available);
    hugepages_added += hugepages_read("nr_hugepages") - before;
    return hugepages_read("free_hugepages") >= (long)pages;
}

int platform_end(void **state) {
    (void)state;
    hugepages_release();
    return 0;
}

void hugepages_release(void) {
    if (hugepages_added > 0) {
        hugepages_change(-hugepages_added);
    }
    hugepages_added = 0;
    if (hugepages_lock >= 0) {
        close(hugepages_lock);
        hugepages_lock = -1;
    }
}

int file_on(const char *type, const char *options) {
    char directory[] = "/tmp/platform-XXXXXX", path[64];
    assert_non_null(mkdtemp(directory));
    int file = -1;
    if (mount("none", directory, type, 0, options) == 0) {
        snprintf(path, sizeof(path), "%s/ram", directory);
        file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        umount2(directory, MNT_DETACH);
    }
    rmdir(directory);
    return file;
}

struct order {
    enum target_op op;
    uint64_t page, value;
};

/* What read(2) copies from: a file whose content is the value. */
static void kernel_write(int file, uint64_t *to, uint64_t value) {
    if (pwrite(file, &value, sizeof(value), 0) != sizeof(value) || pread(file, to, sizeof(value), 0) != sizeof(value)) {
        _exit(3);
    }
}

static int64_t obey(const struct target *t, int source, const struct order *order) {
    uint64_t *page = (uint64_t *)(void *)(t->memory + order->page * t->page_size);
    switch (order->op) {
    case TARGET_WRITE:
        *(volatile uint64_t *)page = order->value;
        return 0;
    case TARGET_KERNEL_WRITE:
        kernel_write(source, page, order->value);
        return 0;
    case TARGET_READ:
        return (int64_t) * (volatile uint64_t *)page;
    case TARGET_REMOVE:
        return madvise(page, order->value * t->page_size, MADV_REMOVE);
    case TARGET_DONTNEED:
        return madvise(page, order->value * t->page_size, MADV_DONTNEED);
    case TARGET_UNMAP:
        return munmap(page, t->page_size);
    case TARGET_ADVISE:
        return madvise(page, t->page_size, (int)order->value);
    case TARGET_ADVISE_ALL:
        return madvise(t->memory, t->pages * t->page_size, (int)order->value);
    case TARGET_FILL:
        for (uint64_t i = 0; i < order->value; i++) {
            *(volatile uint64_t *)(void *)((uint8_t *)page + i * t->page_size) = order->page + i + 1;
        }
        return 0;
    }
    return -1;
}

struct target_ends {
    struct target *target;
    int orders, answers;
};

/* By the child itself: huge pages that were promised to us would not be its. */
static void map_private(const struct target *t) {
    bool huge = t->page_size != SMALL_PAGE;
    int flags = MAP_PRIVATE | MAP_FIXED | (t->file < 0 ? MAP_ANONYMOUS : 0) | (t->file < 0 && huge ? MAP_HUGETLB : 0);
    uint64_t size = t->pages * t->page_size;
    if (mmap(t->memory, size, PROT_READ | PROT_WRITE, flags, t->file, 0) != t->memory) {
        _exit(5);
    }
    madvise(t->memory, size, MADV_NOHUGEPAGE);
}

static void target_run(void *opaque) {
    const struct target_ends *ends = opaque;
    struct order order;
    if (ends->target->kind == TRACKER_PRIVATE) {
        map_private(ends->target);
    }
    int source = memfd_create("source", 0);
    while (read(ends->orders, &order, sizeof(order)) == sizeof(order)) {
        int64_t answer = obey(ends->target, source, &order);
        if (write(ends->answers, &answer, sizeof(answer)) != sizeof(answer)) {
            break;
        }
    }
}

static void target_run_child(struct target *t) {
    int orders[2], answers[2];
    assert_int_equal(pipe2(orders, O_CLOEXEC), 0);
    assert_int_equal(pipe2(answers, O_CLOEXEC), 0);
    struct target_ends ends = { .target = t, .orders = orders[0], .answers = answers[1] };
    t->pid = child_start(target_run, &ends);
    t->ask = orders[1];
    t->answer = answers[0];
    close(orders[0]);
    close(answers[1]);
}

void target_start_on(struct target *t, int file, uint64_t pages, uint64_t page_size) {
    *t = (struct target){ .file = file, .page_size = page_size, .pages = pages, .kind = TRACKER_SHARED };
    assert_int_equal(ftruncate(t->file, (off_t)(pages * page_size)), 0);
    t->memory = mmap(NULL, pages * page_size, PROT_READ | PROT_WRITE, MAP_SHARED, t->file, 0);
    assert_true(t->memory != MAP_FAILED);
    target_run_child(t);
}

/* Addresses at a multiple of what a huge page takes, kept free of other memory of ours. */
static uint8_t *keep_addresses(uint64_t size) {
    uint8_t *all = mmap(NULL, size + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(all != MAP_FAILED);
    uint8_t *start = all + (HUGE_PAGE - (uintptr_t)all % HUGE_PAGE) % HUGE_PAGE;
    if (start > all) {
        munmap(all, (size_t)(start - all));
    }
    munmap(start + size, (size_t)(all + HUGE_PAGE - start));
    return start;
}

void target_start_private(struct target *t, int file, uint64_t pages, uint64_t page_size) {
    bool huge = page_size != SMALL_PAGE;
    if (huge && !hugepages_reserve((unsigned)pages)) {
        hugepages_release();
        SKIP("%u free huge pages cannot be had", (unsigned)pages);
    }
    *t = (struct target){ .file = file, .page_size = page_size, .pages = pages, .kind = TRACKER_PRIVATE };
    t->memory = keep_addresses(pages * page_size);
    target_run_child(t);
    /* its memory is there when it answers */
    assert_int_equal(target_ask(t, TARGET_ADVISE, 0, MADV_NORMAL), 0);
}

uint64_t child_kib(pid_t pid, const char *file, const char *field) {
    char path[64], line[256];
    uint64_t sum = 0;
    unsigned long long kib;
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL) {
        size_t n = strlen(field);
        if (strncmp(line, field, n) == 0 && sscanf(line + n, ": %llu kB", &kib) == 1) {
            sum += kib;
        }
    }
    fclose(f);
    return sum;
}

void target_start(struct target *t, uint64_t pages, uint64_t page_size) {
    bool huge = page_size != SMALL_PAGE;
    if (huge && !hugepages_reserve((unsigned)pages)) {
        hugepages_release();
        SKIP("%u free huge pages cannot be had", (unsigned)pages);
    }
    int file = memfd_create("target", MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0));
    assert_true(file >= 0);
    target_start_on(t, file, pages, page_size);
}

int64_t target_ask(const struct target *t, enum target_op op, uint64_t page, uint64_t value) {
    struct order order = { op, page, value };
    int64_t answer = -1;
    assert_int_equal(write(t->ask, &order, sizeof(order)), sizeof(order));
    assert_int_equal(read(t->answer, &answer, sizeof(answer)), sizeof(answer));
    return answer;
}

void target_end(struct target *t) {
    child_end(t->pid);
    close(t->ask);
    close(t->answer);
    munmap(t->memory, t->pages * t->page_size);
    if (t->file >= 0) {
        close(t->file);
    }
    hugepages_release();
}

static void found_add(void *opaque, uint64_t start, uint64_t end) {
    struct found *found = opaque;
    assert_true(start < end && start >= found->last_end);
    assert_true(start >= found->start && end <= found->start + found->pages * found->page_size);
    assert_int_equal((start - found->start) % found->page_size, 0);
    assert_int_equal((end - found->start) % found->page_size, 0);
    bits_set_range(found->map, (start - found->start) / found->page_size, (end - found->start) / found->page_size);
    found->last_end = end;
}

void target_scan(const struct target *t, struct tracker *tracker, struct found *found) {
    struct error err = { 0 };
    *found = (struct found){ .start = target_start_address(t), .page_size = t->page_size, .pages = t->pages };
    found->map = calloc(bits_words(t->pages), sizeof(*found->map));
    assert_non_null(found->map);
    assert_ok(tracker_scan(tracker, target_start_address(t), target_end_address(t), found_add, found, &err) == 0, &err);
    assert_ok(tracker_check(tracker, &err) == 0, &err);
}

void found_end(struct found *found) {
    free(found->map);
}

const char *found_text(const struct found *found) {
    static char text[4096];
    size_t n = 0;
    text[0] = '\0';
    for (uint64_t at = bits_next_set(found->map, 0, found->pages); at < found->pages && n + 64 < sizeof(text);) {
        uint64_t end = bits_next_clear(found->map, at, found->pages);
        const char *space = n > 0 ? " " : "";
        if (end - at == 1) {
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%llu", space, (unsigned long long)at);
        } else {
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%llu-%llu", space, (unsigned long long)at,
                                  (unsigned long long)end - 1);
        }
        at = bits_next_set(found->map, end, found->pages);
    }
    return text;
}

bool has_tracker(enum tracker_kind kind) {
    struct kernel_features k;
    kernel_probe(&k);
    enum tracker_kind best = kernel_tracker(&k);
    return best == TRACKER_ASYNC || (best == TRACKER_SYNC && kind == TRACKER_SYNC);
}

void needs_tracker(enum tracker_kind kind) {
    if (!has_tracker(kind)) {
        SKIP("this kernel has no %s tracker", tracker_kind_name(kind));
    }
}

bool has_scan(void) {
    struct error err = { 0 };
    int pagemap CLEANUP_CLOSE = pagemap_open(getpid(), &err);
    assert_true(pagemap >= 0);
    return pagemap_can_scan(pagemap);
}

void needs_steady_time(void) {
    if (getenv("GODWIT_PATIENCE") != NULL) {
        SKIP("this machine is emulated: shares of its time say nothing");
    }
}

struct tracker *target_track(const struct target *t, enum tracker_kind kind) {
    struct error err = { 0 };
    struct tracker *tracker = tracker_open(t->pid, kind, NULL, &err);
    assert_ok(tracker != NULL, &err);
    assert_int_equal(tracker_kind(tracker), kind);
    assert_ok(tracker_add(tracker, target_start_address(t), target_end_address(t), t->page_size, t->kind, &err) == 0,
              &err);
    struct found found;
    target_scan(t, tracker, &found);
    assert_int_equal(bits_count(found.map, found.pages), t->pages);
    found_end(&found);
    return tracker;
}
