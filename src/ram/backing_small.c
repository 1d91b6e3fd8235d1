/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file of small pages.
 *
 * What is preallocated? Nobody keeps a note of it: a page of tmpfs that was allocated beforehand (the VMM's
 * prealloc=on, somebody's fallocate()) and one that an earlier guest has written look the same. Punching the first one
 * takes from the guest what it was promised: under a full tmpfs or a tight host its next write there is a SIGBUS. So:
 *
 *   the file has no hole at all        it was preallocated. Nothing is punched, now or later; what must be zero is
 *                                      written. (A guest's own file has holes even when the guest uses all of its
 *                                      memory: what lies behind the VGA window cannot be reached. Should one be full by
 *                                      use after all, then it keeps what it had when we came.)
 *   it has holes: a page with zeros    was allocated beforehand for a part; stays, now and later.
 *   it has holes: a page with data     an earlier guest's; goes back to the host.
 *
 * Whether there are holes is asked of st_blocks, not of SEEK_HOLE: tmpfs calls what fallocate() has allocated and
 * nobody has touched a hole. For the same reason a file that was fallocated in part cannot be told from a sparse one.
 */
#include "ram/backing_internal.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct small {
    struct on_file file;
    /* write() holds the file's lock in the kernel, and a second writer spins for it: ours sleeps, and the CPU is the
     * other channels' (a fifth of the receiver's CPU time on two cores). */
    pthread_mutex_t write_lock;
    /* Set by make_empty(), then read only. */
    bool preallocated; /* all of it */
    uint64_t *kept;    /* bit per page: allocated beforehand; NULL: none is */
};

static int punch(const struct backing *b, uint64_t at, uint64_t size, struct error *err) {
    if (fallocate(backing_fd(b), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)size) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot free stale pages of %s", b->id);
    }
    return 0;
}

static int cannot_write(const struct backing *b, struct error *err) {
    return error_errno(err, ERROR_SYSTEM, "cannot write the RAM file of %s (is its tmpfs large enough for the guest?)",
                       b->id);
}

#define ZERO_PAGES 64u /* in one call */

/* Without a moment in which the pages are not there. */
static int write_zeros(struct small *s, uint64_t at, uint64_t size, struct error *err) {
    static const uint8_t page[RAM_PAGE_SIZE];
    struct iovec parts[ZERO_PAGES];
    for (unsigned i = 0; i < ZERO_PAGES; i++) {
        parts[i] = (struct iovec){ (void *)(uintptr_t)page, sizeof(page) };
    }
    LOCK_GUARD(&s->write_lock);
    while (size > 0) {
        uint64_t pages = (size + RAM_PAGE_SIZE - 1) / RAM_PAGE_SIZE;
        uint64_t inside = at % RAM_PAGE_SIZE; /* after a short write */
        parts[0].iov_len = RAM_PAGE_SIZE - inside;
        uint64_t count = inside != 0 ? 1 : pages < ZERO_PAGES ? pages : ZERO_PAGES;
        ssize_t n = pwritev(s->file.fd, parts, (int)count, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return cannot_write(&s->file.base, err);
        }
        at += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return 0;
}

static int small_place(struct backing *b, uint64_t at, uint64_t size, const uint8_t *from, struct error *err) {
    struct small *s = (struct small *)b;
    LOCK_GUARD(&s->write_lock);
    return io_write_at(s->file.fd, from, size, at) == (ssize_t)size ? 0 : cannot_write(b, err);
}

static int small_zero(struct backing *b, uint64_t at, uint64_t size, struct error *err) {
    struct small *s = (struct small *)b;
    if (s->preallocated) {
        return write_zeros(s, at, size, err);
    }
    if (s->kept == NULL) {
        return punch(b, at, size, err);
    }
    uint64_t page = at / RAM_PAGE_SIZE, last = (at + size) / RAM_PAGE_SIZE;
    while (page < last) {
        bool kept = bits_test(s->kept, page);
        uint64_t end = kept ? bits_next_clear(s->kept, page, last) : bits_next_set(s->kept, page, last);
        uint64_t bytes = (end - page) * RAM_PAGE_SIZE;
        int rc = kept ? write_zeros(s, page * RAM_PAGE_SIZE, bytes, err) : punch(b, page * RAM_PAGE_SIZE, bytes, err);
        if (rc < 0) {
            return -1;
        }
        page = end;
    }
    return 0;
}

/* ---- before the first page ---- */

static int keep(struct small *s, uint64_t at, uint64_t size, struct error *err) {
    if (s->kept == NULL) {
        s->kept = calloc(bits_words(s->file.base.size / RAM_PAGE_SIZE), sizeof(*s->kept));
    }
    if (s->kept == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the page map of %s", s->file.base.id);
    }
    bits_set_range(s->kept, at / RAM_PAGE_SIZE, (at + size) / RAM_PAGE_SIZE);
    return 0;
}

static int empty_piece(struct backing *b, uint64_t at, uint64_t size, bool data, struct error *err) {
    struct small *s = (struct small *)b;
    if (s->preallocated) {
        return data ? write_zeros(s, at, size, err) : 0;
    }
    return data ? punch(b, at, size, err) : keep(s, at, size, err);
}

static int small_make_empty(struct backing *b, struct error *err) {
    struct small *s = (struct small *)b;
    struct stat st;
    if (fstat(s->file.fd, &st) < 0) {
        return error_errno(err, ERROR_SYSTEM, "the RAM file of %s", b->id);
    }
    s->preallocated = st.st_blocks > 0 && (uint64_t)st.st_blocks * 512 >= (uint64_t)st.st_size;
    return on_file_walk(b, empty_piece, err);
}

static void small_close(struct backing *b) {
    struct small *s = (struct small *)b;
    pthread_mutex_destroy(&s->write_lock);
    free(s->kept);
    free(s);
}

static const struct backing_ops small_ops = {
    .name = "file",
    .read = on_file_read,
    .look = on_file_look,
    .watch = on_file_watch,
    .allocated = on_file_allocated,
    .make_empty = small_make_empty,
    .place = small_place,
    .zero = small_zero,
    .close = small_close,
};

struct backing *backing_open_small(const struct backing_file *file, struct error *err) {
    struct small *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory for %s", file->id);
        return NULL;
    }
    s->file = (struct on_file){ { &small_ops, file->id, file->size, file->page_size }, file->fd };
    pthread_mutex_init(&s->write_lock, NULL);
    return &s->file.base;
}
