/* SPDX-License-Identifier: Apache-2.0 */
/* What both kinds of files share; for src/ram/backing*.c and their tests. */
#ifndef GODWIT_RAM_BACKING_INTERNAL_H
#define GODWIT_RAM_BACKING_INTERNAL_H

#include "ram/backing.h"

/* The first member of both. */
struct on_file {
    struct backing base;
    int fd;
};

static inline int backing_fd(const struct backing *b) {
    return ((const struct on_file *)b)->fd;
}

struct backing *backing_open_small(const struct backing_file *file, struct error *err);
struct backing *backing_open_huge(const struct backing_file *file, struct error *err);

/* Ops of both. */
int on_file_read(const struct backing *b, uint64_t at, uint64_t size, uint8_t *to, struct error *err);
int on_file_look(struct backing *b, uint64_t *populated, uint64_t *gone, struct error *err);
int on_file_watch(const struct backing *b, int inotify, struct error *err);
uint64_t on_file_allocated(const struct backing *b);

/* Sets the bits of what may hold anything in the first `size` bytes of a file. `id`: of the block, for texts. */
int on_file_mark(int fd, const char *id, uint64_t size, uint64_t *populated, struct error *err);

/* Called for a piece of the file that may hold anything: whether it holds more than zeros. */
typedef int on_file_piece_fn(struct backing *b, uint64_t at, uint64_t size, bool data, struct error *err);
/* Walks all that may hold anything, in whole host pages, or MiB where those are small; a piece ends where an extent
 * does. Reads all of it. */
int on_file_walk(struct backing *b, on_file_piece_fn *piece, struct error *err);

#endif
