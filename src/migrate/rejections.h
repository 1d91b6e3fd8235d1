/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches that an accelerator spoiled. The destination has placed nothing of them and names their pages; they are sent
 * again, in full and by software.
 *
 * Everything in such a message comes from the other side and is checked here. Of a message only the pages are kept, 16
 * bytes a run, and of all messages no more than REJECTIONS_MAX_RUNS until the pass ends: a peer cannot make us keep
 * what it likes.
 */
#ifndef GODWIT_MIGRATE_REJECTIONS_H
#define GODWIT_MIGRATE_REJECTIONS_H

#include "base/error.h"
#include "ram/block.h"
#include "ram/send.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* More than any device spoils before it is given up: then it is not a device. */
#define REJECTIONS_MAX 4096
#define REJECTIONS_MAX_RUNS (64u << 10)

/* All zeros: none. The main thread's. */
struct rejections {
    struct rejected_run {
        uint64_t first; /* page of the block */
        uint32_t count; /* pages */
        uint16_t block;
    } * runs;
    size_t count, room;
    size_t waiting; /* batches that those runs are of */
    unsigned taken; /* batches in all */
};

/* Takes a message {"block", "runs": [first, count, …]}, which may come at any time. -1 with ERROR_PEER when it names
 * pages that there are not, or when there are too many of them; then nothing is kept of it. */
int rejections_take(struct rejections *r, const struct ram *ram, json_t *message, struct error *err);
/* Between passes: marks those pages as dirty, so that the next pass sends them in full, and keeps them no longer.
 * Returns how many batches they were of. */
size_t rejections_mark(struct rejections *r, struct ram_send *send);
void rejections_free(struct rejections *r);

#endif
