/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/gather.h"

#include "base/bits.h"
#include "ram/zero.h"

#include <string.h>

static void add_zero(const struct gather *g, struct batch *b, struct ram_block *block, uint64_t page) {
    if (!bits_test(block->sent, page)) {
        return; /* the destination has zeros there from the start */
    }
    bits_clear(block->sent, page);
    ram_set_digest(block, page, (struct page_digest){ 0, 0 });
    if (g->cache != NULL) {
        cache_drop(g->cache, b->block, page);
    }
    batch_add(&b->zero, page);
}

/* True when the page goes as the change from what the destination has. */
static bool add_change(const struct gather *g, struct batch *b, uint64_t page, const uint8_t *bytes,
                       struct page_digest digest) {
    size_t n = cache_change(g->cache, b->block, page, b->pass, bytes, b->changes + b->delta_bytes, BATCH_MAX_DELTA);
    if (n == 0) {
        return false;
    }
    b->delta_digests[b->delta.pages] = digest;
    b->delta_bytes += (uint32_t)n;
    batch_add(&b->delta, page);
    return true;
}

/* Where a page went that is not to be sent in full, or that it is. */
enum fate { FULL, UNCHANGED, ELSEWHERE };

static enum fate sort_page(const struct gather *g, struct batch *b, struct ram_block *block, uint64_t page,
                           const uint8_t *bytes) {
    struct page_digest digest = digest_page(g->key, bytes);
    if (digest_equal(digest, ram_digest(block, page))) {
        return UNCHANGED;
    }
    ram_set_digest(block, page, digest);
    if (bits_test(block->sent, page)) {
        /* A change needs what was sent before to be there still: where the destination's VMM writes too, pages go
         * whole. */
        if (g->cache != NULL && !block->own && add_change(g, b, page, bytes, digest)) {
            return ELSEWHERE;
        }
    } else {
        bits_set(block->sent, page);
    }
    b->full_digests[b->full.pages] = digest;
    batch_add(&b->full, page);
    return FULL;
}

/* Sorts `n` pages that were just read to the end of the batch: those that go in full stay, moved together. */
static void sort_pages(const struct gather *g, struct batch *b, struct ram_block *block, uint64_t first, uint32_t n) {
    uint8_t *from = b->bytes + (size_t)b->full.pages * RAM_PAGE_SIZE, *to = from;
    bool detect = atomic_load_explicit(&g->settings->zero_detection, memory_order_relaxed);
    uint64_t zeros = 0, unchanged = 0, deltas = b->delta.pages;
    for (uint64_t page = first; page < first + n; page++, from += RAM_PAGE_SIZE) {
        if (detect && is_zero(from, RAM_PAGE_SIZE)) {
            zeros++;
            add_zero(g, b, block, page);
            continue;
        }
        enum fate fate = sort_page(g, b, block, page, from);
        unchanged += fate == UNCHANGED;
        if (fate == FULL) {
            if (to != from) {
                memcpy(to, from, RAM_PAGE_SIZE);
            }
            to += RAM_PAGE_SIZE;
        }
    }
    b->looked_at += n;
    count(&g->counters->duplicate, zeros);
    count(&g->counters->unchanged, unchanged);
    count(&g->counters->delta, b->delta.pages - deltas);
    count(&g->counters->done, n);
}

/* Adds the dirty pages of a chunk while there is room, and moves the chunk's beginning behind what is done. */
static int gather_chunk(const struct gather *g, struct batch *b, struct pass_chunk *chunk, struct error *err) {
    uint64_t *dirty = chunk->block->dirty, begin = chunk->first, room;
    uint64_t first = bits_next_set(dirty, begin, chunk->end);
    while (first < chunk->end && (room = batch_room(b)) > 0) {
        uint64_t end = bits_next_clear(dirty, first, chunk->end);
        uint32_t n = (uint32_t)(end - first < room ? end - first : room);
        if (ram_read(chunk->block, first, n, b->bytes + (size_t)b->full.pages * RAM_PAGE_SIZE, err) < 0) {
            return -1;
        }
        sort_pages(g, b, chunk->block, first, n);
        first = bits_next_set(dirty, first + n, chunk->end);
    }
    bits_clear_range(dirty, begin, first);
    chunk->first = first;
    b->end = first;
    return 0;
}

int gather_batch(const struct gather *g, struct batch *b, struct error *err) {
    struct pass_chunk chunk;
    while (batch_room(b) > 0 && pass_next_chunk(g->pass, &chunk)) {
        /* What another thread has given back lies before what we have: runs ascend. */
        bool foreign = !batch_is_empty(b) && (chunk.index != b->block || chunk.first < b->end);
        if (!foreign) {
            b->block = chunk.index;
            if (gather_chunk(g, b, &chunk, err) < 0) {
                return -1;
            }
        }
        if (chunk.first < chunk.end) {
            pass_return_chunk(g->pass, &chunk);
        }
        if (foreign) {
            break;
        }
    }
    return 0;
}
