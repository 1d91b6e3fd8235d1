/* SPDX-License-Identifier: Apache-2.0 */
#include "host/pagemap.h"

#include "base/fault.h"
#include "base/io.h"

#include <fcntl.h>
#include <stdio.h>

int pagemap_open(pid_t pid, struct error *err) {
    char path[48];
    snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 ? fd : error_errno(err, ERROR_SYSTEM, "cannot open %s", path);
}

bool pagemap_can_scan(int pagemap) {
    struct pm_scan_arg nothing = { .size = sizeof(nothing) };
    return !fault_planned("no-pagemap-scan", NULL) && ioctl(pagemap, PAGEMAP_SCAN, &nothing) >= 0;
}

int pagemap_read(int pagemap, uint64_t address, size_t pages, uint64_t *entries, struct error *err) {
    size_t size = pages * sizeof(*entries);
    ssize_t n = io_read_at(pagemap, entries, size, address / PAGEMAP_PAGE * sizeof(*entries));
    if (n == (ssize_t)size) {
        return 0;
    }
    return n < 0 ? error_errno(err, ERROR_SYSTEM, "cannot read the page map of the VMM")
                 : error_set(err, ERROR_VMM, "the VMM has ended: it has no page map any more");
}
