/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of another process, through /proc/PID/mem.
 *
 * Why not process_vm_readv() and process_vm_writev(), which are a third faster: they take a process id, and an id may
 * be another process's by the time of the call. A descriptor of /proc/PID/mem holds on to the memory that it was opened
 * for, and reads as ended when that is gone.
 *
 * Nothing is ever given back that a tracker does not report: it is all there, always.
 */
#include "ram/backing.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "ram/zero.h"

#include <errno.h>
#include <stdlib.h>

#define PIECE (256u << 10)

struct memory {
    struct backing base;
    uint64_t address;
    int fd;
};

static const struct memory *memory_of(const struct backing *b) {
    return (const struct memory *)b;
}

/* What a call means that moved `n` bytes, and less than all. */
static int cannot(const struct backing *b, ssize_t n, const char *what, struct error *err) {
    if (n >= 0) {
        return error_set(err, ERROR_VMM, "the VMM has ended: its memory %s cannot be %s any more", b->id, what);
    }
    if (errno == EIO || errno == EFAULT) {
        return error_set(err, ERROR_VMM, "the VMM does not have its memory %s mapped any more: it cannot be %s", b->id,
                         what);
    }
    return error_errno(err, ERROR_SYSTEM, "the VMM's memory %s cannot be %s", b->id, what);
}

static int memory_read(const struct backing *b, uint64_t at, uint64_t size, uint8_t *to, struct error *err) {
    const struct memory *m = memory_of(b);
    ssize_t n = io_read_at(m->fd, to, size, m->address + at);
    return n == (ssize_t)size ? 0 : cannot(b, n, "read", err);
}

static int memory_place(struct backing *b, uint64_t at, uint64_t size, const uint8_t *from, struct error *err) {
    const struct memory *m = memory_of(b);
    ssize_t n = io_write_at(m->fd, from, size, m->address + at);
    return n == (ssize_t)size ? 0 : cannot(b, n, "written", err);
}

static int memory_next_extent(const struct backing *b, uint64_t from, uint64_t *start, uint64_t *end,
                              struct error *err) {
    (void)err;
    *start = from;
    *end = b->size;
    return from < b->size;
}

static int memory_watch(const struct backing *b, int inotify, struct error *err) {
    (void)b;
    (void)inotify;
    (void)err;
    return 0;
}

static uint64_t memory_allocated(const struct backing *b) {
    (void)b;
    return 0; /* not told */
}

/* Where it is zero already nothing is written: a page that nobody has touched yet stays so. */
static int memory_zero(struct backing *b, uint64_t at, uint64_t size, struct error *err) {
    static const uint8_t zeros[RAM_PAGE_SIZE];
    CLEANUP_FREE uint8_t *piece = malloc(PIECE);
    if (piece == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory to clear %s", b->id);
    }
    for (uint64_t end = at + size; at < end;) {
        uint64_t n = end - at < PIECE ? end - at : PIECE;
        if (memory_read(b, at, n, piece, err) < 0) {
            return -1;
        }
        for (uint64_t page = 0; page < n; page += RAM_PAGE_SIZE) {
            if (!is_zero(piece + page, RAM_PAGE_SIZE) && memory_place(b, at + page, RAM_PAGE_SIZE, zeros, err) < 0) {
                return -1;
            }
        }
        at += n;
    }
    return 0;
}

static int memory_make_empty(struct backing *b, struct error *err) {
    return memory_zero(b, 0, b->size, err);
}

static void memory_close(struct backing *b) {
    free(b);
}

static const struct backing_ops memory_ops = {
    .name = "memory of a process",
    .read = memory_read,
    .next_extent = memory_next_extent,
    .watch = memory_watch,
    .allocated = memory_allocated,
    .make_empty = memory_make_empty,
    .place = memory_place,
    .zero = memory_zero,
    .close = memory_close,
};

struct backing *backing_open_memory(const struct backing_memory *memory, struct error *err) {
    struct memory *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory for %s", memory->id);
        return NULL;
    }
    m->base = (struct backing){
        .ops = &memory_ops, .id = memory->id, .size = memory->size, .page_size = RAM_PAGE_SIZE, .own = true
    };
    m->address = memory->address;
    m->fd = memory->fd;
    return &m->base;
}
