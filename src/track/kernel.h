/* SPDX-License-Identifier: Apache-2.0 */
/* What this kernel can do, found out by trying each thing on ourselves, once. Features, never versions. */
#ifndef GODWIT_TRACK_KERNEL_H
#define GODWIT_TRACK_KERNEL_H

#include "track/tracker.h"

#include <stdbool.h>

struct kernel_features {
    bool userfaultfd;       /* userfaultfd(2) works for us */
    bool unprivileged_uffd; /* vm.unprivileged_userfaultfd is 1 */
    bool wp_shmem;          /* write-protect on tmpfs and hugetlbfs: the sync tracker for files (5.19) */
    bool wp_anon;           /* of anonymous memory, seen in pagemap: the sync tracker for private RAM (5.13) */
    bool wp_async;          /* WP_ASYNC: needed by the async tracker (6.7) */
    bool pagemap_scan;      /* PAGEMAP_SCAN ioctl: likewise */
    bool pidfd_getfd;       /* (5.6) */
    bool ptrace;            /* PTRACE_SEIZE of a child of ours works */
    bool ptrace_any;        /* CAP_SYS_PTRACE: of a process of another user too */
    bool map_files;         /* /proc/PID/map_files can be opened: root */
};

/* Never fails: what could not be tried is false. GODWIT_FAULT=no-userfaultfd, no-unprivileged-uffd, no-wp-shmem,
 * no-wp-anon, no-wp-async, no-pagemap-scan, no-pidfd-getfd, no-ptrace, no-ptrace-any, no-map-files force a false.
 * Forks a child for a moment (for ptrace), which is gone when it returns. */
void kernel_probe(struct kernel_features *k);

/* The tracker that these features allow: TRACKER_ASYNC before TRACKER_SYNC; TRACKER_AUTO for none. The sync one may
 * know one of the two kinds of memory only. */
enum tracker_kind kernel_tracker(const struct kernel_features *k);
/* Whether it can track small pages of that kind: in anonymous memory or on tmpfs. tracker_add() decides. */
bool kernel_tracks(const struct kernel_features *k, enum tracker_memory memory);

#endif
