/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel definitions that are younger than the headers of the distributions we build on (Debian 12 has those of 6.1).
 * The values are the kernel's ABI: include/uapi/linux/{userfaultfd,fs}.h. */
#ifndef GODWIT_REMOTE_UAPI_H
#define GODWIT_REMOTE_UAPI_H

#include <linux/fs.h>
#include <linux/types.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#ifndef UFFD_USER_MODE_ONLY /* Linux 5.11 */
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM /* Linux 5.19 */
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED /* Linux 6.4 */
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC /* Linux 6.7 */
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

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
