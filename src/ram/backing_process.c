/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is private to another process.
 *
 * What is not there is not touched. To read a page of anonymous memory that nobody has written maps the page of zeros,
 * with a page table for it, and a huge page will not come there any more; of hugetlbfs it takes a whole huge page. So
 * the page table is asked first what is there (ram/population.h); the rest is zeros, or the pages of the file that is
 * mapped there, and is read from that file.
 *
 *   look() ─► there: bit a page ─► read() goes by it
 *
 * At the source that is asked for all of a block at once, by look(), behind each scan that protects, and read()
 * believes it until the next. What is touched after the look was touched after the scan, without protection, so the
 * next scan reports it: to read it as what it was before is as right as to have read it a moment earlier. What was
 * given back before the look is not there, is read as what it is, and if the destination has something else it is sent
 * (gone, ram/removal.c). What is given back after the look was there in it and is not in the next. So each page that
 * was copied as the process's own was there in the look before, and a page whose copy is not what the process would
 * find is found by a scan or by comparing two looks. Who never looks has read() ask each time.
 *
 * Reading is process_vm_readv(): a third faster than /proc/PID/mem. It takes a process id, and an id may be another
 * process's by the time of a call; but a pidfd that says behind the call that the process has not ended proves that the
 * id was its own all the while. (An id is free for others only when its process has ended and was waited for.) Writing
 * cannot be taken back. So it is process_vm_writev() as long as somebody holds on to the id, which takes half of the
 * CPU time (docs/architecture.md), and else goes through the descriptor of /proc/PID/mem, which holds on to the memory
 * that it was opened for.
 */
#include "ram/backing.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/zero.h"
#include "host/process.h"
#include "ram/backing_internal.h"
#include "ram/first_touch.h"
#include "ram/population.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PIECE (256u << 10)
#define PIECE_PAGES (PIECE / RAM_PAGE_SIZE)

struct memory {
    struct backing base;
    uint64_t address;
    pid_t pid;
    int fd, pidfd, origin;
    const atomic_bool *pinned;
    struct population population;
    struct first_touch first_touch;
    uint64_t *there; /* as the last look() found it; NULL: nobody has looked */
    uint64_t *data;  /* what the origin holds; NULL: no origin, or nobody has looked */
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

static bool has_ended(const struct memory *m) {
    return process_held_has_ended(m->pidfd);
}

/* ---- reading ---- */

/* Pages that are the process's own. */
static int read_process(const struct memory *m, uint64_t at, uint64_t size, uint8_t *to, struct error *err) {
    struct iovec local = { to, size }, remote = { (void *)(uintptr_t)(m->address + at), size }; /* NOLINT */
    ssize_t n = process_vm_readv(m->pid, &local, 1, &remote, 1, 0);
    if (has_ended(m)) {
        return cannot(&m->base, 0, "read", err);
    }
    if (n != (ssize_t)size) { /* it is not allowed here, or is cut: this way says what it is */
        n = io_read_at(m->fd, to, size, m->address + at);
    }
    return n == (ssize_t)size ? 0 : cannot(&m->base, n, "read", err);
}

/* Pages that are not: the file's, which may end before the mapping does, or zeros. */
static int read_origin(const struct memory *m, uint64_t at, uint64_t size, uint8_t *to, struct error *err) {
    ssize_t n = m->origin >= 0 ? io_read_at(m->origin, to, size, at) : 0;
    if (n < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot read the file that is mapped at the memory %s", m->base.id);
    }
    memset(to + n, 0, size - (uint64_t)n);
    return 0;
}

/* By a map of what is there, of which the first page is bit `first`. */
static int read_by(const struct memory *m, const uint64_t *there, uint64_t first, uint64_t at, uint64_t size,
                   uint8_t *to, struct error *err) {
    uint64_t page = first, last = first + size / RAM_PAGE_SIZE;
    while (page < last) {
        bool own = bits_test(there, page);
        uint64_t end = own ? bits_next_clear(there, page, last) : bits_next_set(there, page, last);
        uint64_t from = (page - first) * RAM_PAGE_SIZE, bytes = (end - page) * RAM_PAGE_SIZE;
        int rc =
            own ? read_process(m, at + from, bytes, to + from, err) : read_origin(m, at + from, bytes, to + from, err);
        if (rc < 0) {
            return -1;
        }
        page = end;
    }
    return 0;
}

static int find(const struct memory *m, uint64_t at, uint64_t size, uint64_t *there, uint64_t *unsure,
                struct error *err) {
    uint64_t start = m->address + at;
    if (population_find(&m->population, start, start + size, there, unsure, err) < 0) {
        return error_prefix(err, "memory %s: ", m->base.id);
    }
    /* what has ended has nothing, and would be read as zeros */
    return has_ended(m) ? cannot(&m->base, 0, "read", err) : 0;
}

static int memory_read(const struct backing *b, uint64_t at, uint64_t size, uint8_t *to, struct error *err) {
    const struct memory *m = memory_of(b);
    if (m->there != NULL) {
        return read_by(m, m->there, at / RAM_PAGE_SIZE, at, size, to, err);
    }
    for (uint64_t done = 0; done < size; done += PIECE) {
        uint64_t n = size - done < PIECE ? size - done : PIECE, there[PIECE_PAGES / 64] = { 0 };
        if (find(m, at + done, n, there, NULL, err) < 0 || read_by(m, there, 0, at + done, n, to + done, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- what is there ---- */

static uint64_t *new_map(const struct backing *b, struct error *err) {
    uint64_t *map = calloc(bits_words(b->size / RAM_PAGE_SIZE), sizeof(*map));
    if (map == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory for the page map of %s", b->id);
    }
    return map;
}

/* A file that has no blocks has nothing; hugetlbfs cannot say more than that. */
static int find_data(struct memory *m, uint64_t *data, struct error *err) {
    struct stat st;
    if (fstat(m->origin, &st) < 0) {
        return error_errno(err, ERROR_SYSTEM, "the file that is mapped at the memory %s", m->base.id);
    }
    return st.st_blocks == 0 ? 0 : on_file_mark(m->origin, m->base.id, m->base.size, data, err);
}

/* The file is nobody's to change: once. */
static int look_at_origin(struct memory *m, struct error *err) {
    if (m->origin < 0 || m->data != NULL) {
        return 0;
    }
    uint64_t *data = new_map(&m->base, err);
    if (data == NULL || find_data(m, data, err) < 0) {
        free(data);
        return -1;
    }
    m->data = data;
    return 0;
}

static int memory_look(struct backing *b, uint64_t *populated, uint64_t *gone, struct error *err) {
    struct memory *m = (struct memory *)b;
    size_t words = bits_words(b->size / RAM_PAGE_SIZE);
    CLEANUP_FREE uint64_t *unsure = new_map(b, err);
    uint64_t *now = new_map(b, err);
    if (unsure == NULL || now == NULL || look_at_origin(m, err) < 0 || find(m, 0, b->size, now, unsure, err) < 0) {
        free(now);
        return -1;
    }
    for (size_t i = 0; i < words; i++) {
        gone[i] |= unsure[i] | (m->there != NULL ? m->there[i] & ~now[i] : 0);
        populated[i] |= now[i] | (m->data != NULL ? m->data[i] : 0);
    }
    free(m->there);
    m->there = now;
    return 0;
}

static int memory_watch(const struct backing *b, int inotify, struct error *err) {
    (void)b;
    (void)inotify;
    (void)err;
    return 0;
}

static uint64_t memory_allocated(const struct backing *b) {
    struct error err = { 0 };
    CLEANUP_FREE uint64_t *now = new_map(b, &err);
    if (now == NULL || find(memory_of(b), 0, b->size, now, NULL, &err) < 0) {
        return 0;
    }
    return bits_count(now, b->size / RAM_PAGE_SIZE) * RAM_PAGE_SIZE;
}

/* ---- writing ---- */

static bool is_pinned(const struct memory *m) {
    return m->pinned != NULL && atomic_load_explicit(m->pinned, memory_order_acquire);
}

/* The id is held. Bytes that were written, from the first one on. */
static uint64_t write_process(const struct memory *m, uint64_t at, uint64_t size, const uint8_t *from) {
    struct iovec local = { (void *)(uintptr_t)from, size };               /* NOLINT(performance-no-int-to-ptr) */
    struct iovec remote = { (void *)(uintptr_t)(m->address + at), size }; /* NOLINT(performance-no-int-to-ptr) */
    ssize_t n = process_vm_writev(m->pid, &local, 1, &remote, 1, 0);
    return n > 0 ? (uint64_t)n : 0;
}

/* The id is held. Writes the first page of each stretch that nobody has touched; what cannot be written here is
 * written again behind it, where it is said what failed. */
static void touch(struct memory *m, uint64_t at, uint64_t size, const uint8_t *from) {
    for (uint64_t here = at, next; here < at + size; here = next) {
        next = first_touch_next(&m->first_touch, here);
        if (first_touch_begin(&m->first_touch, here)) {
            write_process(m, here, RAM_PAGE_SIZE, from + (here - at));
            first_touch_end(&m->first_touch, here);
        }
    }
}

static int memory_place(struct backing *b, uint64_t at, uint64_t size, const uint8_t *from, struct error *err) {
    struct memory *m = (struct memory *)b;
    uint64_t done = 0;
    if (is_pinned(m)) {
        touch(m, at, size, from);
        done = write_process(m, at, size, from);
    }
    if (done == size) {
        return 0;
    }
    /* it is not allowed here, or is cut: this way says what it is */
    at += done;
    from += done;
    size -= done;
    ssize_t n = io_write_at(m->fd, from, size, m->address + at);
    return n == (ssize_t)size ? 0 : cannot(b, n, "written", err);
}

/* One call for all: pages of a kind come from here and there. What it does not do the slower way does again. */
static int memory_place_parts(struct backing *b, const struct backing_part *parts, unsigned count, const uint8_t *from,
                              struct error *err) {
    struct memory *m = (struct memory *)b;
    struct iovec local = { (void *)(uintptr_t)from, 0 }, remote[BACKING_PARTS] = { 0 };
    bool pinned = is_pinned(m);
    for (unsigned i = 0; i < count; i++) {
        remote[i] = (struct iovec){ (void *)(uintptr_t)(m->address + parts[i].at), parts[i].size }; /* NOLINT */
        if (pinned) {
            touch(m, parts[i].at, parts[i].size, from + local.iov_len);
        }
        local.iov_len += parts[i].size;
    }
    if (pinned && process_vm_writev(m->pid, &local, 1, remote, count, 0) == (ssize_t)local.iov_len) {
        return 0;
    }
    for (unsigned i = 0; i < count; from += parts[i++].size) {
        if (memory_place(b, parts[i].at, parts[i].size, from, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Where it is zero already nothing is written: a page that nobody has touched yet stays so. Nobody but the process
 * itself can give memory back. */
static int clear_piece(struct backing *b, uint64_t at, uint64_t size, uint8_t *piece, struct error *err) {
    static const uint8_t zeros[PIECE];
    if (memory_read(b, at, size, piece, err) < 0) {
        return -1;
    }
    for (uint64_t page = 0, end; page < size; page = end) {
        end = page + RAM_PAGE_SIZE;
        if (is_zero(piece + page, RAM_PAGE_SIZE)) {
            continue;
        }
        while (end < size && !is_zero(piece + end, RAM_PAGE_SIZE)) {
            end += RAM_PAGE_SIZE;
        }
        if (memory_place(b, at + page, end - page, zeros, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Of [at, at + size) what is marked in `map`, whose first page is bit 0; NULL: all of it. */
static int clear_marked(struct backing *b, uint64_t at, uint64_t size, const uint64_t *map, struct error *err) {
    CLEANUP_FREE uint8_t *piece = malloc(PIECE);
    if (piece == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory to clear %s", b->id);
    }
    uint64_t pages = size / RAM_PAGE_SIZE;
    for (uint64_t page = 0, end; page < pages; page = end) {
        page = map != NULL ? bits_next_set(map, page, pages) : page;
        end = map != NULL ? bits_next_clear(map, page, pages) : pages;
        end = end - page < PIECE_PAGES ? end : page + PIECE_PAGES;
        if (page < end && clear_piece(b, at + page * RAM_PAGE_SIZE, (end - page) * RAM_PAGE_SIZE, piece, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int memory_zero(struct backing *b, uint64_t at, uint64_t size, struct error *err) {
    return clear_marked(b, at, size, NULL, err);
}

/* A fresh VMM has touched next to nothing of its RAM: only what is there is read. */
static int memory_make_empty(struct backing *b, struct error *err) {
    struct memory *m = (struct memory *)b;
    CLEANUP_FREE uint64_t *map = new_map(b, err);
    if (map == NULL || find(m, 0, b->size, map, NULL, err) < 0 || (m->origin >= 0 && find_data(m, map, err) < 0)) {
        return -1;
    }
    return clear_marked(b, 0, b->size, map, err);
}

static void memory_close(struct backing *b) {
    struct memory *m = (struct memory *)b;
    population_close(&m->population);
    first_touch_destroy(&m->first_touch);
    if (m->pidfd >= 0) {
        close(m->pidfd);
    }
    free(m->there);
    free(m->data);
    free(m);
}

static const struct backing_ops memory_ops = {
    .name = "memory of a process",
    .read = memory_read,
    .look = memory_look,
    .watch = memory_watch,
    .allocated = memory_allocated,
    .make_empty = memory_make_empty,
    .place = memory_place,
    .place_parts = memory_place_parts,
    .zero = memory_zero,
    .close = memory_close,
};

/* The id is that of the process whose memory we have: the memory is there still, after we took hold of both. */
static int take_process(struct memory *m, enum population_kind kind, struct error *err) {
    uint8_t byte;
    m->pidfd = process_hold(m->pid, err);
    if (m->pidfd < 0) {
        return -1;
    }
    if (population_open(&m->population, m->pid, kind, err) < 0) {
        return -1;
    }
    /* nothing is mapped there: an error, and no byte only when the memory has ended */
    return pread(m->fd, &byte, 1, 0) != 0 && !has_ended(m) ? 0 : cannot(&m->base, 0, "read", err);
}

struct backing *backing_open_memory(const struct backing_memory *memory, struct error *err) {
    struct memory *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory for %s", memory->id);
        return NULL;
    }
    m->base = (struct backing){ .ops = &memory_ops,
                                .id = memory->id,
                                .size = memory->size,
                                .page_size = memory->page_size,
                                .own = memory->own,
                                .silent = true };
    m->address = memory->address;
    m->pid = memory->pid;
    m->fd = memory->fd;
    m->origin = memory->origin;
    m->pinned = memory->pinned;
    m->pidfd = m->population.pagemap = -1;
    enum population_kind kind = memory->page_size != RAM_PAGE_SIZE ? POPULATION_HUGE
                                : memory->origin >= 0              ? POPULATION_COPIES
                                                                   : POPULATION_ANONYMOUS;
    if (first_touch_init(&m->first_touch, memory->address, memory->size, err) < 0 || take_process(m, kind, err) < 0) {
        memory_close(&m->base);
        return NULL;
    }
    return &m->base;
}
