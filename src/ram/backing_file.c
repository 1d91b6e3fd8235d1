/* SPDX-License-Identifier: Apache-2.0 */
/* What files have in common, whatever their pages are. */
#include "ram/backing_internal.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/zero.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

int on_file_read(const struct backing *b, uint64_t at, uint64_t size, uint8_t *to, struct error *err) {
    ssize_t n = io_read_at(backing_fd(b), to, size, at);
    if (n < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot read the RAM file of %s", b->id);
    }
    return (uint64_t)n == size
               ? 0
               : error_set(err, ERROR_SYSTEM, "the RAM file of %s has become shorter than the guest's memory", b->id);
}

struct extents {
    int fd;
    const char *id;
    uint64_t size;
};

/* The next one at or after `from`: 1 with [*start, *end), 0 when there is none, -1 on error. */
static int next_extent(const struct extents *e, uint64_t from, uint64_t *start, uint64_t *end, struct error *err) {
    if (from >= e->size) {
        return 0;
    }
    off_t data, hole;
    do {
        data = lseek(e->fd, (off_t)from, SEEK_DATA);
        if (data < 0) {
            return errno == ENXIO ? 0 : error_errno(err, ERROR_SYSTEM, "SEEK_DATA on the RAM file of %s", e->id);
        }
        hole = lseek(e->fd, data, SEEK_HOLE);
        if (hole < 0) {
            return error_errno(err, ERROR_SYSTEM, "SEEK_HOLE on the RAM file of %s", e->id);
        }
        /* The guest may give these pages back between the two questions. That is no end of the file: ask again. */
    } while (hole <= data && (uint64_t)data < e->size);
    *start = (uint64_t)data;
    *end = (uint64_t)hole < e->size ? (uint64_t)hole : e->size;
    return *start < *end;
}

int on_file_mark(int fd, const char *id, uint64_t size, uint64_t *populated, struct error *err) {
    const struct extents e = { fd, id, size };
    uint64_t start = 0, end = 0;
    int rc;
    while ((rc = next_extent(&e, end, &start, &end, err)) > 0) {
        bits_set_range(populated, start / RAM_PAGE_SIZE, (end + RAM_PAGE_SIZE - 1) / RAM_PAGE_SIZE);
    }
    return rc;
}

/* What is gone the file tells (watch). */
/* NOLINTNEXTLINE(readability-non-const-parameter): the ops table has it so */
int on_file_look(struct backing *b, uint64_t *populated, uint64_t *gone, struct error *err) {
    (void)gone;
    return on_file_mark(backing_fd(b), b->id, b->size, populated, err);
}

int on_file_watch(const struct backing *b, int inotify, struct error *err) {
    char path[48]; /* by descriptor: the file may have no name, or be in another mount namespace */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", backing_fd(b));
    if (inotify_add_watch(inotify, path, IN_MODIFY) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot watch the RAM file of %s", b->id);
    }
    return 0;
}

uint64_t on_file_allocated(const struct backing *b) {
    struct stat st;
    return fstat(backing_fd(b), &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* ---- looking for what an earlier guest left ---- */

#define LOOK_SIZE (1u << 20)

/* Read in pieces, for a host page may be 1 GiB. */
static int holds_data(const struct backing *b, uint64_t start, uint64_t end, uint8_t *buffer, struct error *err) {
    for (uint64_t at = start; at < end; at += LOOK_SIZE) {
        uint64_t n = end - at < LOOK_SIZE ? end - at : LOOK_SIZE;
        if (on_file_read(b, at, n, buffer, err) < 0) {
            return -1;
        }
        if (!is_zero(buffer, n)) {
            return 1;
        }
    }
    return 0;
}

int on_file_walk(struct backing *b, on_file_piece_fn *piece, struct error *err) {
    CLEANUP_FREE uint8_t *buffer = malloc(LOOK_SIZE);
    if (buffer == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory to look for stale pages");
    }
    const struct extents e = { backing_fd(b), b->id, b->size };
    uint64_t unit = b->page_size > LOOK_SIZE ? b->page_size : LOOK_SIZE, at = 0, start = 0, end = 0;
    int rc;
    while ((rc = next_extent(&e, at, &start, &end, err)) > 0) {
        for (start -= start % b->page_size; start < end; start += unit) {
            uint64_t n = end - start < unit ? end - start : unit;
            int data = holds_data(b, start, start + n, buffer, err);
            if (data < 0 || piece(b, start, n, data > 0, err) < 0) {
                return -1;
            }
        }
        at = end;
    }
    return rc;
}
