/* SPDX-License-Identifier: Apache-2.0 */
/* Which kind of swap a marker in the page table claims to be in: the kernel is made to leave one, and asked. */
#include "host/pagemap.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int kind = PAGEMAP_MARKER;

static bool protect(int uffd, uintptr_t page) {
    struct uffdio_api api = { .api = UFFD_API,
                              .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
    struct uffdio_register all = { .range = { page, PAGEMAP_PAGE }, .mode = UFFDIO_REGISTER_MODE_WP };
    struct uffdio_writeprotect wp = { .range = { page, PAGEMAP_PAGE }, .mode = UFFDIO_WRITEPROTECT_MODE_WP };
    return uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0 && ioctl(uffd, UFFDIO_REGISTER, &all) == 0 &&
           ioctl(uffd, UFFDIO_WRITEPROTECT, &wp) == 0;
}

/* A protected page of a file that is mapped privately, given back. */
static void leave_one(int uffd, volatile char *page) {
    struct error err = { 0 };
    uint64_t entry = 0;
    (void)page[0];
    if (!protect(uffd, (uintptr_t)page) || madvise((void *)(uintptr_t)page, PAGEMAP_PAGE, MADV_DONTNEED) < 0) {
        return;
    }
    int pagemap CLEANUP_CLOSE = pagemap_open(getpid(), &err);
    if (pagemap >= 0 && pagemap_read(pagemap, (uintptr_t)page, 1, &entry, &err) == 0 &&
        (entry & PAGEMAP_PRESENT) == 0 && (entry & PAGEMAP_SWAPPED) != 0 && PAGEMAP_FRAME(entry) != 0) {
        kind = PAGEMAP_SWAP_TYPE(entry);
    }
}

static void find_out(void) {
    int file CLEANUP_CLOSE = memfd_create("marker", MFD_CLOEXEC);
    int uffd CLEANUP_CLOSE = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (file < 0 || ftruncate(file, PAGEMAP_PAGE) < 0) {
        return;
    }
    void *page = mmap(NULL, PAGEMAP_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    if (page != MAP_FAILED) {
        leave_one(uffd, page);
        munmap(page, PAGEMAP_PAGE);
    }
}

int pagemap_marker(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_out);
    return kind;
}
