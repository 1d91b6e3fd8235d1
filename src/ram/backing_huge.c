/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file on hugetlbfs. It has no write(): there, and only there, what is to be written is mapped.
 *
 * Nothing is ever punched. Who maps a file of hugetlbfs reserves a page of the pool for each page of it, and the
 * reservation stands in the file's own map. Punching takes the entry out of that map together with the page
 * (hugetlb_unreserve_pages() in fs/hugetlbfs): the page goes back to the pool for anybody to take, and the VMM, whose
 * mapping was promised it, gets a SIGBUS when none is left. To map the file anew would reserve again, but not before
 * somebody else may have. So old content is overwritten with zeros in place. It costs what clearing the same page at
 * its next first touch would, and no memory: the page was the file's when we came, and no page is backed for a zero.
 */
#include "ram/backing_internal.h"

#include "base/bits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct huge {
    struct on_file file;
    uint8_t *map;     /* NULL: only read */
    uint64_t *backed; /* bit per host page that is known to be there */
};

/* Channels place into one file at the same time: this map is shared by them all. */
static bool is_backed(const struct huge *g, uint64_t h) {
    return __atomic_load_n(&g->backed[h / 64], __ATOMIC_RELAXED) >> (h % 64) & 1;
}

/* Backs the host pages of [start, end) before they are touched: without a free huge page the touch would be a SIGBUS,
 * this is an error. */
static int back(struct huge *g, uint64_t start, uint64_t end, struct error *err) {
    uint64_t page = g->file.base.page_size;
    for (uint64_t h = start / page; h * page < end; h++) {
        if (is_backed(g, h)) {
            continue;
        }
        if (madvise(g->map + h * page, page, MADV_POPULATE_WRITE) < 0 && errno != EINVAL) {
            return error_errno(err, ERROR_SYSTEM, "no huge page left for %s (raise vm.nr_hugepages)", g->file.base.id);
        }
        /* Two threads may both get here for one host page; populating twice is harmless, so only the bit is shared. */
        __atomic_fetch_or(&g->backed[h / 64], UINT64_C(1) << (h % 64), __ATOMIC_RELAXED);
    }
    return 0;
}

static int huge_place(struct backing *b, uint64_t at, uint64_t size, const uint8_t *from, struct error *err) {
    struct huge *g = (struct huge *)b;
    if (back(g, at, at + size, err) < 0) {
        return -1;
    }
    memcpy(g->map + at, from, size);
    return 0;
}

static int huge_zero(struct backing *b, uint64_t at, uint64_t size, struct error *err) {
    (void)err;
    struct huge *g = (struct huge *)b;
    for (uint64_t end = at + size; at < end; at += RAM_PAGE_SIZE) {
        /* A host page that was never backed is zero already; so is one that was there and that nothing was placed in.
         */
        if (is_backed(g, at / b->page_size)) {
            memset(g->map + at, 0, RAM_PAGE_SIZE);
        }
    }
    return 0;
}

static int empty_piece(struct backing *b, uint64_t at, uint64_t size, bool data, struct error *err) {
    struct huge *g = (struct huge *)b;
    if (!data) {
        return 0;
    }
    if (back(g, at, at + size, err) < 0) { /* it is there, unless somebody else has just punched it */
        return -1;
    }
    memset(g->map + at, 0, size);
    return 0;
}

static int huge_make_empty(struct backing *b, struct error *err) {
    return on_file_walk(b, empty_piece, err);
}

static void huge_close(struct backing *b) {
    struct huge *g = (struct huge *)b;
    if (g->map != NULL) {
        munmap(g->map, b->size);
    }
    free(g->backed);
    free(g);
}

static const struct backing_ops huge_ops = {
    .name = "hugetlb file",
    .read = on_file_read,
    .look = on_file_look,
    .watch = on_file_watch,
    .allocated = on_file_allocated,
    .make_empty = huge_make_empty,
    .place = huge_place,
    .zero = huge_zero,
    .close = huge_close,
};

/* MAP_NORESERVE: what the VMM has reserved is enough. */
static int map_file(struct huge *g, struct error *err) {
    const struct backing *b = &g->file.base;
    g->backed = calloc(bits_words(b->size / b->page_size), sizeof(*g->backed));
    if (g->backed == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the page map of %s", b->id);
    }
    void *map = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, g->file.fd, 0);
    if (map == MAP_FAILED) {
        return error_errno(err, ERROR_SYSTEM, "cannot map the hugetlbfs file of %s", b->id);
    }
    g->map = map;
    return 0;
}

struct backing *backing_open_huge(const struct backing_file *file, struct error *err) {
    struct huge *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory for %s", file->id);
        return NULL;
    }
    g->file = (struct on_file){ { &huge_ops, file->id, file->size, file->page_size }, file->fd };
    if (file->write && map_file(g, err) < 0) {
        huge_close(&g->file.base);
        return NULL;
    }
    return &g->file.base;
}
