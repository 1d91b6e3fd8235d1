/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page tables of another process: /proc/PID/pagemap.
 *
 * Two ways to ask. PAGEMAP_SCAN (Linux 6.7) gives runs of pages of a kind, and passes over what has no page tables.
 * Reading gives 64 bits for each small page, whatever the kernel: what is not there costs as much as what is.
 */
#ifndef GODWIT_HOST_PAGEMAP_H
#define GODWIT_HOST_PAGEMAP_H

#include "base/error.h"

#include <linux/fs.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

#define PAGEMAP_PAGE UINT64_C(4096)

/* Of an entry. Where neither is set nothing is there. */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62) /* in swap, on its way to another place, or a marker without a page */
#define PAGEMAP_FILE (UINT64_C(1) << 61)    /* the file's own page, or shared memory: no private copy */
#define PAGEMAP_UFFD_WP (UINT64_C(1) << 57) /* write-protected by a userfaultfd (Linux 5.13) */
/* Of a present one: its physical page. Zeros where we may not know it (CAP_SYS_ADMIN). */
#define PAGEMAP_FRAME(entry) ((entry) & ((UINT64_C(1) << 55) - 1))
/* Of one in swap: in which; likewise. One of the last kinds stands for what is no page at all: a marker. */
#define PAGEMAP_SWAP_TYPE(entry) ((int)((entry)&31))
#define PAGEMAP_MARKER 31 /* of Linux 6.2 and later; 30 before (include/linux/swap.h): pagemap_marker() knows */

/* Returns a descriptor, which stands for the memory that the process has now; -1 on error. */
int pagemap_open(pid_t pid, struct error *err);

/* Whether this kernel has PAGEMAP_SCAN. GODWIT_FAULT=no-pagemap-scan does without. */
bool pagemap_can_scan(int pagemap);

/* The kind of swap that is that of markers on this kernel. Where it cannot be found out, PAGEMAP_MARKER. */
int pagemap_marker(void);

/* The entries of `pages` small pages from `address`. ERROR_VMM: the process has ended. */
int pagemap_read(int pagemap, uint64_t address, size_t pages, uint64_t *entries, struct error *err);

/* The kernel's ABI, younger than the headers of the distributions that we build on: include/uapi/linux/fs.h. */
#ifndef PAGEMAP_SCAN /* Linux 6.7 */
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)

#define PAGE_IS_WPALLOWED (1 << 0)
#define PAGE_IS_WRITTEN (1 << 1)
#define PAGE_IS_FILE (1 << 2)
#define PAGE_IS_PRESENT (1 << 3)
#define PAGE_IS_SWAPPED (1 << 4)
#define PAGE_IS_PFNZERO (1 << 5)
#define PAGE_IS_HUGE (1 << 6)

/* Write-protect the pages that the scan reports, atomically with the report. */
#define PM_SCAN_WP_MATCHING (1 << 0)
/* Fail with EPERM on a mapping that is not registered for asynchronous write-protection. */
#define PM_SCAN_CHECK_WPASYNC (1 << 1)

struct page_region {
    __u64 start, end; /* addresses, end exclusive */
    __u64 categories; /* those of return_mask that hold */
};

struct pm_scan_arg {
    __u64 size;     /* of this structure */
    __u64 flags;    /* PM_SCAN_* */
    __u64 start;    /* in: the range, page aligned */
    __u64 end;      /* in */
    __u64 walk_end; /* out: where the walk stopped; the rest was neither reported nor protected */
    __u64 vec;      /* in: address of the struct page_region array */
    __u64 vec_len;  /* in: its elements */
    __u64 max_pages;
    __u64 category_inverted;
    __u64 category_mask;
    __u64 category_anyof_mask;
    __u64 return_mask;
};
#endif

#endif
