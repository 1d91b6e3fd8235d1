/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/pass.h"

#include "base/cleanup.h"

static uint64_t chunks_of(const struct ram_block *b) {
    return (b->pages + PASS_CHUNK_PAGES - 1) / PASS_CHUNK_PAGES;
}

void pass_init(struct pass *p, struct ram *ram) {
    *p = (struct pass){ .ram = ram };
    pthread_mutex_init(&p->lock, NULL);
    for (uint16_t i = 0; i < ram->count; i++) {
        p->chunks += chunks_of(&ram->blocks[i]);
    }
    atomic_store(&p->cursor, p->chunks);
}

void pass_destroy(struct pass *p) {
    pthread_mutex_destroy(&p->lock);
}

void pass_begin(struct pass *p) {
    atomic_store(&p->cursor, 0);
}

static bool take_returned(struct pass *p, struct pass_chunk *chunk) {
    if (atomic_load(&p->returned_count) == 0) {
        return false;
    }
    LOCK_GUARD(&p->lock);
    if (p->returned_count == 0) {
        return false;
    }
    *chunk = p->returned[--p->returned_count];
    return true;
}

bool pass_next_chunk(struct pass *p, struct pass_chunk *chunk) {
    if (take_returned(p, chunk)) {
        return true;
    }
    if (atomic_load_explicit(&p->cursor, memory_order_relaxed) >= p->chunks) {
        return false;
    }
    uint64_t n = atomic_fetch_add_explicit(&p->cursor, 1, memory_order_relaxed);
    for (uint16_t i = 0; i < p->ram->count; i++) {
        struct ram_block *b = &p->ram->blocks[i];
        if (n < chunks_of(b)) {
            uint64_t first = n * PASS_CHUNK_PAGES, end = first + PASS_CHUNK_PAGES;
            *chunk = (struct pass_chunk){ b, i, first, end < b->pages ? end : b->pages };
            return true;
        }
        n -= chunks_of(b);
    }
    return false;
}

void pass_return_chunk(struct pass *p, const struct pass_chunk *chunk) {
    LOCK_GUARD(&p->lock);
    p->returned[p->returned_count++] = *chunk; /* each thread has at most one: there is room */
}

bool pass_has_chunk(struct pass *p) {
    return atomic_load(&p->returned_count) > 0 || atomic_load(&p->cursor) < p->chunks;
}
