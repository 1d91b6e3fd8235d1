/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to know what a process writes, with each tracker that this kernel has and with soft-dirty bits
 * (clear_refs, bit 55 of pagemap): for the process, a first write and the work that it gets done; for us, a scan.
 * Anonymous memory in small pages. Figures of an emulated machine are good for their ratios only.
 *
 *   tracker-cost [MIB]
 */
#include "base/clock.h"
#include "host/pagemap.h"
#include "track/tracker.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)
#define RUN (3 * CLOCK_S)
#define BETWEEN_SCANS (100 * CLOCK_MS)
#define PACE (60000000 / (int64_t)PAGE) /* pages a second: 60 MB/s */
#define BURST 16
#define SWEPT 1024
#define PINGS 1000
#define SOFT_DIRTY (UINT64_C(1) << 55)
#define ENTRIES 65536u

enum order { WAIT, SWEEP, STORM };

/* Shared with the process that writes. */
struct shared {
    _Atomic int order;
    atomic_llong took;  /* ns of a sweep: one write to each of SWEPT pages */
    atomic_llong pace;  /* pages a second of a storm; 0: as fast as it goes */
    atomic_llong wrote; /* pages in a storm */
    uint8_t *memory;
    uint64_t pages;
};

static void sweep(struct shared *s) {
    int64_t begin = clock_now();
    for (uint64_t i = 0; i < SWEPT; i++) {
        (*(volatile uint64_t *)(void *)(s->memory + i * (s->pages / SWEPT) * PAGE))++;
    }
    atomic_store(&s->took, clock_now() - begin);
    atomic_store(&s->order, WAIT);
}

static void storm(struct shared *s) {
    uint64_t random = 1;
    int64_t begin = clock_now(), pace = atomic_load(&s->pace), wrote = 0;
    while (atomic_load(&s->order) == STORM) {
        for (int i = 0; i < BURST; i++) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            (*(volatile uint64_t *)(void *)(s->memory + (random >> 16) % s->pages * PAGE))++;
        }
        wrote += BURST;
        atomic_store(&s->wrote, wrote);
        int64_t ahead = pace > 0 ? begin + wrote * CLOCK_S / pace - clock_now() : 0;
        if (ahead > CLOCK_MS) {
            clock_sleep(ahead);
        }
    }
}

static void obey(struct shared *s) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        switch (atomic_load(&s->order)) {
        case SWEEP:
            sweep(s);
            break;
        case STORM:
            storm(s);
            break;
        default:
            clock_sleep(CLOCK_MS);
        }
    }
}

/* A way to know: one scan takes note of what was written, and begins anew. Returns the pages, -1 on error. */
struct way {
    const char *name;
    pid_t pid;
    struct tracker *tracker; /* NULL: soft-dirty bits, or nothing at all */
    int pagemap, clear_refs; /* -1 */
    uint64_t start, pages;
};

static void count(void *opaque, uint64_t start, uint64_t end) {
    *(int64_t *)opaque += (int64_t)((end - start) / PAGE);
}

static int64_t scan_soft_dirty(const struct way *way) {
    static uint64_t entries[ENTRIES];
    int64_t found = 0;
    for (uint64_t at = 0; at < way->pages; at += ENTRIES) {
        struct error err = { 0 };
        uint64_t n = way->pages - at < ENTRIES ? way->pages - at : ENTRIES;
        if (pagemap_read(way->pagemap, way->start + at * PAGE, n, entries, &err) < 0) {
            return -1;
        }
        for (uint64_t i = 0; i < n; i++) {
            found += (entries[i] & SOFT_DIRTY) != 0;
        }
    }
    return found;
}

static int64_t scan(const struct way *way) {
    int64_t found = 0;
    struct error err = { 0 };
    if (way->tracker != NULL) {
        uint64_t end = way->start + way->pages * PAGE;
        return tracker_scan(way->tracker, way->start, end, count, &found, &err) < 0 ? -1 : found;
    }
    if (way->clear_refs < 0) {
        return 0;
    }
    found = scan_soft_dirty(way);
    return pwrite(way->clear_refs, "4", 1, 0) == 1 ? found : -1;
}

static void do_order(struct shared *s, enum order order, const struct way *way) {
    atomic_store(&s->order, order);
    if (order == SWEEP) {
        while (atomic_load(&s->order) == SWEEP) {
            clock_sleep(CLOCK_MS);
        }
        return;
    }
    for (int64_t end = clock_now() + RUN; clock_now() < end; clock_sleep(BETWEEN_SCANS)) {
        scan(way);
    }
    atomic_store(&s->order, WAIT);
    clock_sleep(BETWEEN_SCANS);
}

/* What a scan costs in ms a GiB. */
static double timed_scan(const struct way *way, int64_t *found) {
    int64_t begin = clock_now();
    *found = scan(way);
    return (double)(clock_now() - begin) / CLOCK_MS * (double)(1 << 18) / (double)way->pages;
}

static void measure(struct shared *s, const struct way *way) {
    int64_t all, none, pages[2];
    scan(way);
    do_order(s, SWEEP, way);
    double first = (double)atomic_load(&s->took) / SWEPT;
    double full = timed_scan(way, &all), idle = timed_scan(way, &none);
    do_order(s, SWEEP, way);
    do_order(s, SWEEP, way);
    double again = (double)atomic_load(&s->took) / SWEPT;
    for (int i = 0; i < 2; i++) {
        atomic_store(&s->pace, i == 0 ? PACE : 0);
        do_order(s, STORM, way);
        pages[i] = atomic_load(&s->wrote);
    }
    double seconds = (double)RUN / CLOCK_S;
    printf("%-10s first write %8.0f ns, another %6.0f ns; a scan of all %8.2f ms/GiB (%" PRId64 " pages), of nothing "
           "%7.2f (%" PRId64 "); work %6.1f MB/s of 60 wanted, %8.1f unpaced\n",
           way->name, first, again, full, all, idle, none, (double)pages[0] * PAGE / 1e6 / seconds,
           (double)pages[1] * PAGE / 1e6 / seconds);
    fflush(stdout);
}

static void measure_tracker(struct shared *s, struct way way, enum tracker_kind kind) {
    struct error err = { 0 };
    way.name = tracker_kind_name(kind);
    way.tracker = tracker_open(way.pid, kind, NULL, &err);
    if (way.tracker == NULL ||
        tracker_add(way.tracker, way.start, way.start + way.pages * PAGE, PAGE, TRACKER_PRIVATE, &err) < 0) {
        printf("%-10s not here: %s\n", way.name, err.desc);
    } else {
        measure(s, &way);
    }
    tracker_close(way.tracker);
}

static void measure_soft_dirty(struct shared *s, struct way way) {
    char path[48];
    struct error err = { 0 };
    snprintf(path, sizeof(path), "/proc/%d/clear_refs", (int)way.pid);
    way.name = "soft-dirty";
    way.clear_refs = open(path, O_WRONLY | O_CLOEXEC);
    way.pagemap = pagemap_open(way.pid, &err);
    if (way.clear_refs < 0 || way.pagemap < 0 || scan(&way) < 0 || scan(&way) < 0) {
        printf("%-10s not here: %s\n", way.name, strerror(errno));
        return;
    }
    do_order(s, SWEEP, &way);
    if (scan_soft_dirty(&way) == 0) {
        printf("%-10s not here: a kernel without CONFIG_MEM_SOFT_DIRTY\n", way.name);
        return;
    }
    measure(s, &way);
}

/* What two processes need to wake each other, there and back: the measure of a fault that another process serves. */
static void measure_pipe(void) {
    int there[2], back[2];
    char byte = 0;
    if (pipe(there) < 0 || pipe(back) < 0) {
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1) {
        }
        _exit(0);
    }
    int64_t begin = clock_now();
    for (int i = 0; i < PINGS; i++) {
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) {
            break;
        }
    }
    printf("%-10s there and back %8.0f ns\n", "a pipe", (double)(clock_now() - begin) / PINGS);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv) {
    uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 10) : 256;
    struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint8_t *memory = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mib < 4 || s == MAP_FAILED || memory == MAP_FAILED || madvise(memory, mib << 20, MADV_NOHUGEPAGE) < 0) {
        fprintf(stderr, "usage: tracker-cost [MIB]\n");
        return 2;
    }
    memset(memory, 1, mib << 20);
    s->memory = memory;
    s->pages = (mib << 20) / PAGE;
    pid_t pid = fork();
    if (pid == 0) {
        obey(s);
    }
    measure_pipe();
    struct way way = { "nothing", pid, NULL, -1, -1, (uintptr_t)memory, s->pages };
    do_order(s, SWEEP, &way);
    measure(s, &way);
    measure_tracker(s, way, TRACKER_ASYNC);
    measure_tracker(s, way, TRACKER_SYNC);
    measure_soft_dirty(s, way);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return 0;
}
