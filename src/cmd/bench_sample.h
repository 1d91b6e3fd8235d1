/* SPDX-License-Identifier: Apache-2.0 */
/* The memory that `godwit bench` tries things on: non-zero pages of a file or of a guest, read once. */
#ifndef GODWIT_CMD_BENCH_SAMPLE_H
#define GODWIT_CMD_BENCH_SAMPLE_H

#include "base/error.h"

#include <stdint.h>

#define BENCH_PAGE 4096u

struct bench_sample {
    uint64_t memory;   /* bytes that there are */
    uint64_t pages;    /* that were looked at */
    uint64_t zero;     /* of them */
    uint8_t *data;     /* the others, one behind the other; owned */
    uint64_t capacity; /* bytes reserved at `data`; they take memory only where something was read */
};

/* Looks at no more than `limit` bytes, in pieces of `piece` pages that lie evenly over the whole memory. Pages of a
 * kind lie together then, as they go in a migration. */
int bench_sample_file(struct bench_sample *s, const char *path, uint64_t limit, unsigned piece, struct error *err);
/* The RAM files of a running guest. Its monitor and the guest are held only until the files are open. */
int bench_sample_guest(struct bench_sample *s, const char *qmp_path, uint64_t limit, unsigned piece, struct error *err);
void bench_sample_free(struct bench_sample *s);

static inline uint64_t bench_sample_used(const struct bench_sample *s) {
    return s->pages - s->zero;
}

#endif
