/* SPDX-License-Identifier: Apache-2.0 */
#include "track/kernel.h"

#include "base/cleanup.h"
#include "base/fault.h"
#include "host/pagemap.h"
#include "host/process.h"
#include "remote/uapi.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Write-protect needs a page of memory to be tried on. */
struct trial {
    int uffd, pagemap;
    volatile char *memory; /* one page, populated; MAP_FAILED for none */
    size_t size;
};

static int open_uffd(void) {
    /* user-mode only is what an unprivileged process may have; kernels before 5.11 don't know the flag */
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    return fd >= 0 ? fd : (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
}

static void trial_end(struct trial *trial) {
    if (trial->memory != MAP_FAILED) {
        munmap((void *)(uintptr_t)trial->memory, trial->size);
    }
    if (trial->uffd >= 0) {
        close(trial->uffd);
    }
    if (trial->pagemap >= 0) {
        close(trial->pagemap);
    }
}

/* A userfaultfd with these features, registered on a page of ours, MAP_SHARED or MAP_PRIVATE, for write-protection. */
static bool trial_begin(struct trial *trial, int kind, uint64_t features) {
    trial->size = (size_t)sysconf(_SC_PAGESIZE);
    trial->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    trial->memory = mmap(NULL, trial->size, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);
    trial->uffd = open_uffd();
    struct uffdio_api api = { .api = UFFD_API, .features = features };
    if (trial->memory == MAP_FAILED || trial->uffd < 0 || ioctl(trial->uffd, UFFDIO_API, &api) < 0) {
        return false;
    }
    trial->memory[0] = 1;
    struct uffdio_register reg = { .range = { .start = (uintptr_t)trial->memory, .len = trial->size },
                                   .mode = UFFDIO_REGISTER_MODE_WP };
    return ioctl(trial->uffd, UFFDIO_REGISTER, &reg) == 0 && (reg.ioctls & (UINT64_C(1) << _UFFDIO_WRITEPROTECT)) != 0;
}

/* How many regions of the trial's page were written, -1 when the kernel cannot tell. */
static int trial_scan(const struct trial *trial, uint64_t flags) {
    struct page_region region;
    struct pm_scan_arg arg = {
        .size = sizeof(arg),
        .flags = flags,
        .start = (uintptr_t)trial->memory,
        .end = (uintptr_t)trial->memory + trial->size,
        .vec = (uintptr_t)&region,
        .vec_len = 1,
        .category_mask = PAGE_IS_WRITTEN,
        .return_mask = PAGE_IS_WRITTEN,
    };
    return ioctl(trial->pagemap, PAGEMAP_SCAN, &arg);
}

static bool trial_protect(const struct trial *trial) {
    struct uffdio_writeprotect wp = { .range = { .start = (uintptr_t)trial->memory, .len = trial->size },
                                      .mode = UFFDIO_WRITEPROTECT_MODE_WP };
    return ioctl(trial->uffd, UFFDIO_WRITEPROTECT, &wp) == 0;
}

static bool try_wp_shmem(void) {
    struct trial trial;
    bool works = trial_begin(&trial, MAP_SHARED, UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM) &&
                 trial_protect(&trial);
    trial_end(&trial);
    return works;
}

/* And the page map says so: the sync tracker finds first touches that way. */
static bool try_wp_anon(void) {
    struct trial trial;
    struct error err = { 0 };
    uint64_t entry = 0;
    bool works = trial_begin(&trial, MAP_PRIVATE, UFFD_FEATURE_PAGEFAULT_FLAG_WP) && trial_protect(&trial) &&
                 pagemap_read(trial.pagemap, (uintptr_t)trial.memory, 1, &entry, &err) == 0 &&
                 (entry & PAGEMAP_PRESENT) != 0 && (entry & PAGEMAP_UFFD_WP) != 0;
    trial_end(&trial);
    return works;
}

/* The whole cycle: protect, write without being stopped, see it. */
static bool try_wp_async(void) {
    struct trial trial;
    bool works = trial_begin(&trial, MAP_SHARED,
                             UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
                                 UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC);
    if (works && trial_scan(&trial, 0) >= 0) {
        const uint64_t flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
        works = trial_scan(&trial, flags) == 1 && trial_scan(&trial, flags) == 0;
        trial.memory[0] = 2;
        works = works && trial_scan(&trial, flags) == 1;
    }
    trial_end(&trial);
    return works;
}

static bool try_pagemap_scan(void) {
    struct trial trial;
    trial_begin(&trial, MAP_SHARED, 0);
    bool works = trial.memory != MAP_FAILED && trial_scan(&trial, 0) >= 0;
    trial_end(&trial);
    return works;
}

static bool try_unprivileged_uffd(void) {
    int fd CLEANUP_CLOSE = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);
    char value = '0';
    return read(fd, &value, 1) == 1 && value == '1';
}

static bool try_pidfd_getfd(void) {
    int pidfd CLEANUP_CLOSE = (int)syscall(SYS_pidfd_open, getpid(), 0);
    int copy CLEANUP_CLOSE = pidfd >= 0 ? (int)syscall(SYS_pidfd_getfd, pidfd, pidfd, 0) : -1;
    return copy >= 0;
}

static bool try_ptrace(void) {
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        /* nothing here may allocate or lock: another thread may have held a lock at the fork */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (getppid() == parent) {
            pause();
        }
        _exit(0);
    }
    if (child < 0) {
        return false;
    }
    bool works = ptrace(PTRACE_SEIZE, child, NULL, NULL) == 0;
    kill(child, SIGKILL);
    int status;
    while (waitpid(child, &status, __WALL) < 0 && errno == EINTR) {
    }
    return works;
}

static bool try_ptrace_any(void) {
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL) {
        return false;
    }
    char line[256];
    unsigned long long capabilities = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "CapEff: %llx", &capabilities) == 1) {
            break;
        }
    }
    fclose(file);
    return (capabilities >> 19 & 1) != 0; /* CAP_SYS_PTRACE */
}

static bool try_map_files(void) {
    struct mapping *maps CLEANUP_FREE = NULL;
    size_t count = 0;
    struct error err = { 0 };
    if (process_mappings(getpid(), &maps, &count, &err) < 0) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (maps[i].inode != 0) {
            int fd CLEANUP_CLOSE = process_open_mapping(getpid(), &maps[i], O_RDONLY, &err);
            return fd >= 0;
        }
    }
    return false;
}

static bool try_userfaultfd(void) {
    int fd CLEANUP_CLOSE = open_uffd();
    return fd >= 0;
}

void kernel_probe(struct kernel_features *k) {
    *k = (struct kernel_features){
        .userfaultfd = !fault_planned("no-userfaultfd", NULL) && try_userfaultfd(),
        .unprivileged_uffd = !fault_planned("no-unprivileged-uffd", NULL) && try_unprivileged_uffd(),
        .wp_shmem = !fault_planned("no-wp-shmem", NULL) && try_wp_shmem(),
        .wp_anon = !fault_planned("no-wp-anon", NULL) && try_wp_anon(),
        .wp_async = !fault_planned("no-wp-async", NULL) && try_wp_async(),
        .pagemap_scan = !fault_planned("no-pagemap-scan", NULL) && try_pagemap_scan(),
        .pidfd_getfd = !fault_planned("no-pidfd-getfd", NULL) && try_pidfd_getfd(),
        .ptrace = !fault_planned("no-ptrace", NULL) && try_ptrace(),
        .ptrace_any = !fault_planned("no-ptrace-any", NULL) && try_ptrace_any(),
        .map_files = !fault_planned("no-map-files", NULL) && try_map_files(),
    };
}

enum tracker_kind kernel_tracker(const struct kernel_features *k) {
    if (!k->userfaultfd || !k->pidfd_getfd || !k->ptrace) {
        return TRACKER_AUTO;
    }
    if (k->wp_async && k->pagemap_scan) {
        return TRACKER_ASYNC;
    }
    return k->wp_shmem || k->wp_anon ? TRACKER_SYNC : TRACKER_AUTO;
}

bool kernel_tracks(const struct kernel_features *k, enum tracker_memory memory) {
    return kernel_tracker(k) != TRACKER_SYNC ? kernel_tracker(k) == TRACKER_ASYNC
                                             : (memory == TRACKER_PRIVATE ? k->wp_anon : k->wp_shmem);
}
