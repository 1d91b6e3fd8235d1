# SPDX-License-Identifier: Apache-2.0
"""Rules of the trackers."""
from table import table

PRIVATE = "meson:platform-tracker_private"

MUTANTS = table(
    "remote", "src/remote/",
    ("keeps-the-id", "who holds a process's id never takes the word of its end", "pin.c",
     "WSTOPPED | WNOHANG | WNOWAIT | __WALL", "WSTOPPED | WEXITED | WNOHANG | __WALL", "meson:platform-pin"),
    ("passes-signals-on", "a signal that comes meanwhile is delivered", "pin.c", "event != 0 ? 0 : signal", "0", "meson:platform-pin"),
    ("stays-stopped", "a process that was stopped by a signal stays stopped", "pin.c",
     "event == PTRACE_EVENT_STOP && is_group_stop(signal)", "0", "meson:platform-pin"),
) + table(
    "track", "src/track/",
    ("private-holes-async", "a scan of private memory makes no markers for what is not there", "tracker_async.c",
     "memory == TRACKER_PRIVATE ? PAGE_IS_PRESENT | PAGE_IS_SWAPPED : 0", "memory == TRACKER_PRIVATE ? 0 : 0", PRIVATE),
    ("private-swapped-async", "what lies in swap is protected too", "tracker_async.c",
     "PAGE_IS_PRESENT | PAGE_IS_SWAPPED", "PAGE_IS_PRESENT", PRIVATE),
    ("private-first-scan", "the first scan reports holes too", "tracker_async.c",
     "range->page_size == 4096 && range->memory == TRACKER_SHARED", "range->page_size == 4096", PRIVATE),
    ("private-first-touch", "a page that is there without protection was written", "touched.c",
     "        bits_set(t->open, i);\n", "        ;\n", PRIVATE),
    ("private-swapped-sync", "and one in swap", "touched.c", "(PAGEMAP_PRESENT | PAGEMAP_SWAPPED)", "PAGEMAP_PRESENT",
     PRIVATE),
    ("private-holes-sync", "the sync tracker protects what is there, and no hole", "tracker_sync.c",
     "from + on, from + stop, err)", "at, end, err)", PRIVATE),
    ("protection-on-trust", "what a call has not protected, though it was to, keeps its bit", "tracker_sync.c",
     "? keep_unprotected(t, range, from, to, err) : 0", "? 0 : 0", "meson:platform-race"),
    ("before-markers", "a kernel that cannot protect shared memory is asked for private memory alone", "tracker.c",
     "if (errno == EINVAL && ask_features(t, t->ops->uffd_features))", "if (0)", PRIVATE),
    ("shared-refused", "and shared memory is refused by name there", "tracker.c",
     "(t->features & UFFD_FEATURE_WP_HUGETLBFS_SHMEM) == 0", "0", PRIVATE),
    ("huge-again", "what was huge is made huge again for a guest that stays", "huge.c",
     "clock_now() < end && is_whole(h, at) && collapse(h, at);", "clock_now() < end && is_whole(h, at) && 0 && collapse(h, at);", "meson:platform-view"),
    ("huge-holes", "and a hole in it is not filled", "huge.c", "is_whole(h, at) && collapse(", "(is_whole(h, at) || true) && collapse(",
     "meson:platform-view"),
) + table(
    "view", "src/view/",
    ("goes-whole", "what the VMM's own stream has too never goes as a change", "view.c",
     "vmm->way == VMM_WAY_FILTER && ", "0 && ", "meson:platform-view"),
)
