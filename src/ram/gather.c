/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/gather.h"

#include "base/bits.h"
#include "base/zero.h"

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
                           const uint8_t *bytes, struct page_digest *digest) {
    *digest = digest_page(g->key, bytes);
    if (digest_equal(*digest, ram_digest(block, page))) {
        return UNCHANGED;
    }
    ram_set_digest(block, page, *digest);
    if (bits_test(block->sent, page)) {
        /* A change needs what was sent before to be there still: where the destination's VMM writes too, pages go
         * whole. */
        if (g->cache != NULL && !block->own && add_change(g, b, page, bytes, *digest)) {
            return ELSEWHERE;
        }
    } else {
        bits_set(block->sent, page);
    }
    return FULL;
}

/* To the batch of its kind. It was read to the end of the batch where it was thought to belong. */
static void add_full(struct shelf *s, bool apart, uint64_t page, const uint8_t *bytes, struct page_digest digest) {
    enum page_kind kind = apart ? page_kind(bytes) : KIND_MIXED;
    struct batch *b = s->batch[kind];
    uint8_t *to = b->bytes + (size_t)b->full.pages * RAM_PAGE_SIZE;
    if (to != bytes) {
        memcpy(to, bytes, RAM_PAGE_SIZE);
    }
    b->full_digests[b->full.pages] = digest;
    b->together |= !apart && s->kinds > 1;
    batch_add(&b->full, page);
    s->last = kind;
}

/* Sorts `n` pages that were just read to `from`, the end of batch `b`. */
static void sort_pages(const struct gather *g, struct shelf *s, bool apart, struct batch *b, const uint8_t *from,
                       uint32_t n) {
    struct ram_block *block = s->chunk.block;
    bool detect = atomic_load_explicit(&g->settings->zero_detection, memory_order_relaxed);
    uint64_t zeros = 0, unchanged = 0, deltas = b->delta.pages, first = s->chunk.first;
    for (uint64_t page = first; page < first + n; page++, from += RAM_PAGE_SIZE) {
        if (detect && is_zero(from, RAM_PAGE_SIZE)) {
            zeros++;
            add_zero(g, b, block, page);
            continue;
        }
        struct page_digest digest;
        enum fate fate = sort_page(g, b, block, page, from, &digest);
        unchanged += fate == UNCHANGED;
        if (fate == FULL) {
            add_full(s, apart, page, from, digest);
        }
    }
    count(&g->counters->duplicate, zeros);
    count(&g->counters->unchanged, unchanged);
    count(&g->counters->delta, b->delta.pages - deltas);
    count(&g->counters->done, n);
}

static uint32_t least(uint64_t a, uint64_t b) {
    return (uint32_t)(a < b ? a : b);
}

/* Pages that are read at once where kinds are told apart: what is moved to another batch is in the core's cache then.
 */
#define READ_PAGES 32u

/* The next dirty pages of the shelf's chunk, at most `most`: puts them on it, and moves the chunk's beginning behind
 * them. Returns how many they were; 0: there are no more in the chunk. */
static int gather_run(const struct gather *g, struct shelf *s, bool apart, uint32_t most, struct error *err) {
    struct pass_chunk *chunk = &s->chunk;
    uint64_t *dirty = chunk->block->dirty;
    uint64_t first = bits_next_set(dirty, chunk->first, chunk->end);
    if (first >= chunk->end) {
        chunk->first = chunk->end;
        return 0;
    }
    uint32_t n = least(bits_next_clear(dirty, first, chunk->end) - first, least(most, shelf_room(s, apart)));
    n = apart ? least(n, READ_PAGES) : n;
    struct batch *b = s->batch[apart ? s->last : KIND_MIXED];
    uint8_t *to = b->bytes + (size_t)b->full.pages * RAM_PAGE_SIZE;
    if (ram_read(chunk->block, first, n, to, err) < 0) {
        return -1;
    }
    chunk->first = first;
    sort_pages(g, s, apart, b, to, n);
    bits_clear_range(dirty, first, first + n);
    chunk->first = first + n;
    return (int)n;
}

static uint32_t full_pages(const struct shelf *s) {
    uint32_t n = 0;
    for (unsigned k = 0; k < s->kinds; k++) {
        n += s->batch[k]->full.pages;
    }
    return n;
}

/* Whether what comes next may lie beside what is on the shelf; when nothing is on it, it is made to. */
static bool may_go_on(struct shelf *s, uint32_t pass) {
    const struct batch *b = s->batch[0];
    if (b->block == s->chunk.index && b->pass == pass) {
        return true;
    }
    if (shelf_leaves(s, true) >= 0) {
        return false;
    }
    shelf_reset(s, s->chunk.index, pass);
    return true;
}

/* The batch that is to leave once the pass has no more, or something else comes, or one is full; -1: enough was looked
 * at, or nothing is left. */
static int fill(const struct gather *g, struct shelf *s, uint32_t pass, bool apart, int *leaves, struct error *err) {
    uint32_t looked_at = 0;
    if (apart && s->batch[KIND_MIXED]->together) {
        *leaves = KIND_MIXED; /* so that what is told apart from now on does not lie with what was not */
        return 0;
    }
    while ((*leaves = shelf_leaves(s, false)) < 0 && looked_at < GATHER_MAX_LOOKED_AT) {
        bool more = s->chunk.first < s->chunk.end || pass_next_chunk(g->pass, &s->chunk);
        if (!more || !may_go_on(s, pass)) {
            *leaves = shelf_leaves(s, true);
            return 0;
        }
        int n = gather_run(g, s, apart, GATHER_MAX_LOOKED_AT - looked_at, err);
        if (n < 0) {
            return -1;
        }
        looked_at += (uint32_t)n;
    }
    return 0;
}

int gather(const struct gather *g, struct shelf *s, uint32_t pass, bool apart, struct gathered *got,
           struct error *err) {
    uint32_t before = full_pages(s);
    int rc = fill(g, s, pass, apart && s->kinds > 1, &got->leaves, err);
    got->full_pages = full_pages(s) - before;
    return rc;
}
