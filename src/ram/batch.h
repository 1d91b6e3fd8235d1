/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch: the unit that is gathered, compressed and sent (seeds.md A1). Pages of one RAM block, of one pass, in up to
 * three parts: pages in full, copied out of guest memory into `bytes`; pages as changes from the version before; and
 * pages that have become zero. Each part that is not empty leaves as a frame, all on one channel.
 *
 * It belongs to one thread at a time: to the one that gathers it, then to a device or to the one that compresses it,
 * then to the one that writes it.
 */
#ifndef GODWIT_RAM_BATCH_H
#define GODWIT_RAM_BATCH_H

#include "accel/accel.h"
#include "ram/digest.h"
#include "ram/kind.h"
#include "wire/conn.h"
#include "wire/frame.h"

#include <stdbool.h>
#include <stdint.h>

struct batch_part {
    uint32_t pages, runs;
    struct frame_run run[FRAME_MAX_PAGES];
};

struct batch {
    struct batch *next; /* in a list of the sender's */
    uint16_t block;
    uint32_t pass;
    enum page_kind kind; /* of the pages in full; the others are of any */
    bool together;       /* some of them were not told apart: they are of any kind */
    uint32_t max_pages;  /* in `full` and in `delta` */

    struct batch_part full, delta, zero;
    struct page_digest full_digests[FRAME_MAX_PAGES], delta_digests[FRAME_MAX_PAGES];
    uint8_t *bytes;       /* max_pages pages */
    bool own_bytes;       /* not a device's memory */
    uint8_t *changes;     /* max_pages times BATCH_MAX_DELTA bytes */
    uint32_t delta_bytes; /* of them in use */
    uint8_t *encoded;     /* as large as `bytes`: what an encoder makes of them; NULL until the first one is used */

    /* What goes out for `full`. */
    const uint8_t *payload;
    uint32_t payload_size;
    uint8_t codec, device;

    /* While an accelerator has it, and until what it made was sent. */
    struct accel_job job;
    int64_t submitted; /* clock_now() */
    bool refused;      /* no accelerator could: software has to */
};

/* A page whose change is larger than this goes in full: a codec would hardly make it larger, and it is the cheaper one
 * to put in place. */
#define BATCH_MAX_DELTA (RAM_PAGE_SIZE / 4)

/* `bytes` NULL: memory of its own, freed with it. NULL when there is no memory. */
struct batch *batch_new(uint32_t max_pages, uint8_t *bytes);
void batch_free(struct batch *b); /* NULL is allowed */
/* Makes it empty, for pages of a block and a pass. */
void batch_reset(struct batch *b, uint16_t block, uint32_t pass);
bool batch_is_empty(const struct batch *b);
/* Pages that can be added whatever they turn out to be; 0: it is full. */
uint32_t batch_room(const struct batch *b);
/* Bytes of the pages in full. */
static inline size_t batch_raw_size(const struct batch *b) {
    return (size_t)b->full.pages * RAM_PAGE_SIZE;
}
/* The largest result that is of use in their place: a sixteenth smaller, for less would not pay for decoding it. */
static inline size_t batch_encoded_capacity(const struct batch *b) {
    return batch_raw_size(b) - batch_raw_size(b) / 16;
}
/* Adds a page to a part, in ascending order. */
void batch_add(struct batch_part *part, uint64_t page);

/* Writes its frames with one call; each of the three heads is room for one frame's header and runs. */
typedef uint8_t batch_heads[3][FRAME_HEADER_SIZE + FRAME_MAX_PAGES * FRAME_RUN_SIZE];
int batch_write(const struct batch *b, const struct digest_key *key, struct conn *conn, batch_heads heads,
                struct error *err);

#endif
