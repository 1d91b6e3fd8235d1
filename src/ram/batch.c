/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/batch.h"

#include <stdlib.h>

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

struct batch *batch_new(uint32_t max_pages, uint8_t *bytes) {
    struct batch *b = calloc(1, sizeof(*b));
    if (b == NULL) {
        return NULL;
    }
    b->max_pages = max_pages;
    b->own_bytes = bytes == NULL;
    b->bytes = bytes != NULL ? bytes : aligned_alloc(RAM_PAGE_SIZE, (size_t)max_pages * RAM_PAGE_SIZE);
    b->changes = malloc((size_t)max_pages * BATCH_MAX_DELTA);
    if (b->bytes == NULL || b->changes == NULL) {
        batch_free(b);
        return NULL;
    }
    return b;
}

void batch_free(struct batch *b) {
    if (b == NULL) {
        return;
    }
    if (b->own_bytes) {
        free(b->bytes);
    }
    free(b->changes);
    free(b->encoded);
    free(b);
}

void batch_reset(struct batch *b, uint16_t block, uint32_t pass) {
    b->block = block;
    b->together = false;
    b->pass = pass;
    b->full.pages = b->full.runs = 0;
    b->delta.pages = b->delta.runs = 0;
    b->zero.pages = b->zero.runs = 0;
    b->delta_bytes = 0;
    b->payload = NULL;
    b->payload_size = 0;
    b->codec = 0;
    b->device = 0;
    b->refused = false;
}

bool batch_is_empty(const struct batch *b) {
    return b->full.pages == 0 && b->delta.pages == 0 && b->zero.pages == 0;
}

uint32_t batch_room(const struct batch *b) {
    uint32_t room = b->max_pages - (b->full.pages > b->delta.pages ? b->full.pages : b->delta.pages);
    return least(room, FRAME_MAX_PAGES - b->zero.runs);
}

void batch_add(struct batch_part *part, uint64_t page) {
    struct frame_run *last = part->runs > 0 ? &part->run[part->runs - 1] : NULL;
    if (last != NULL && last->first + last->count == page && last->count < FRAME_MAX_RUN_PAGES) {
        last->count++;
    } else {
        part->run[part->runs++] = (struct frame_run){ page, 1 };
    }
    part->pages++;
}

static void fill_digest(struct frame *f, struct page_digest d) {
    f->digest[0] = d.low;
    f->digest[1] = d.high;
}

static struct frame frame_of(const struct batch *b, enum frame_kind kind, const struct batch_part *part) {
    return (struct frame){ .kind = (uint8_t)kind,
                           .thing = FRAME_RAM,
                           .index = b->block,
                           .pass = b->pass,
                           .runs = part->runs,
                           .pages = part->pages };
}

/* Puts a frame behind what the array has; returns the new count. */
static int add_frame(struct iovec *iov, int count, const struct frame *f, const struct frame_run *runs, uint8_t *head,
                     const uint8_t *payload) {
    iov[count++] = (struct iovec){ head, frame_encode(f, runs, head) };
    if (f->payload > 0) {
        iov[count++] = (struct iovec){ (void *)(uintptr_t)payload, f->payload };
    }
    return count;
}

int batch_write(const struct batch *b, const struct digest_key *key, struct conn *conn, batch_heads heads,
                struct error *err) {
    struct iovec iov[6];
    int count = 0;
    if (b->zero.pages > 0) {
        struct frame f = frame_of(b, FRAME_ZERO, &b->zero);
        count = add_frame(iov, count, &f, b->zero.run, heads[0], NULL);
    }
    if (b->delta.pages > 0) {
        struct frame f = frame_of(b, FRAME_DELTA, &b->delta);
        f.payload = b->delta_bytes;
        fill_digest(&f, digest_batch(key, b->delta_digests, b->delta.pages));
        count = add_frame(iov, count, &f, b->delta.run, heads[1], b->changes);
    }
    if (b->full.pages > 0) {
        struct frame f = frame_of(b, FRAME_PAGES, &b->full);
        f.codec = b->codec;
        f.device = b->device;
        f.payload = b->payload_size;
        fill_digest(&f, digest_batch(key, b->full_digests, b->full.pages));
        count = add_frame(iov, count, &f, b->full.run, heads[2], b->payload);
    }
    return conn_writev(conn, iov, count, err);
}
