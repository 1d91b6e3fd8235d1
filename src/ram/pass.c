/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/pass.h"

#include "base/bits.h"

#include <stdlib.h>

static uint64_t chunks_of(const struct ram_block *b) {
    return (b->pages + PASS_CHUNK_PAGES - 1) / PASS_CHUNK_PAGES;
}

int pass_init(struct pass *p, struct ram *ram, struct error *err) {
    *p = (struct pass){ .ram = ram };
    for (uint16_t i = 0; i < ram->count; i++) {
        p->chunks += chunks_of(&ram->blocks[i]);
    }
    atomic_store(&p->cursor, p->chunks);
    p->waiting = calloc(bits_words(p->chunks), sizeof(p->waiting[0]));
    p->passed = calloc(bits_words(p->chunks), sizeof(p->passed[0]));
    if (p->waiting == NULL || p->passed == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory for the maps of a pass");
    }
    return 0;
}

void pass_destroy(struct pass *p) {
    free(p->waiting);
    free(p->passed);
    *p = (struct pass){ 0 };
}

void pass_begin(struct pass *p, bool whole) {
    for (size_t i = 0; i < bits_words(p->chunks); i++) {
        atomic_store_explicit(&p->passed[i], 0, memory_order_relaxed);
    }
    p->whole = whole;
    atomic_store(&p->cursor, 0);
}

void pass_set_waiting(struct pass *p, const uint64_t *chunks) {
    for (size_t i = 0; i < bits_words(p->chunks); i++) {
        atomic_store_explicit(&p->waiting[i], chunks[i], memory_order_relaxed);
    }
}

/* Acquires what pass_over() releases: who was before at those pages, in an earlier pass, has done with them. */
void pass_get_passed(const struct pass *p, uint64_t *chunks) {
    for (size_t i = 0; i < bits_words(p->chunks); i++) {
        chunks[i] = atomic_load_explicit(&p->passed[i], memory_order_acquire);
    }
}

static uint64_t fresh_pages(const struct ram_block *b, uint64_t chunk, bool passed) {
    uint64_t first = chunk * (PASS_CHUNK_PAGES / 64), words = bits_words(b->pages), pages = 0;
    uint64_t end = first + PASS_CHUNK_PAGES / 64 < words ? first + PASS_CHUNK_PAGES / 64 : words;
    for (uint64_t i = first; i < end; i++) {
        pages += (uint64_t)__builtin_popcountll(passed ? b->written[i] & ~b->dirty[i] : b->written[i]);
    }
    return pages;
}

uint64_t pass_fresh_pages(const struct pass *p) {
    uint64_t pages = 0, n = 0;
    for (uint16_t i = 0; i < p->ram->count; i++) {
        for (uint64_t chunk = 0; chunk < chunks_of(&p->ram->blocks[i]); chunk++, n++) {
            uint64_t word = atomic_load_explicit(&p->passed[n / 64], memory_order_acquire);
            pages += fresh_pages(&p->ram->blocks[i], chunk, (word >> (n % 64)) & 1);
        }
    }
    return pages;
}

static bool pass_over(struct pass *p, uint64_t n) {
    uint64_t bit = UINT64_C(1) << (n % 64);
    if (p->whole || (atomic_load_explicit(&p->waiting[n / 64], memory_order_relaxed) & bit) == 0) {
        return false;
    }
    atomic_fetch_or_explicit(&p->passed[n / 64], bit, memory_order_release);
    return true;
}

/* Chunk number n of all blocks. */
static void find_chunk(const struct pass *p, uint64_t n, struct pass_chunk *chunk) {
    uint16_t i = 0;
    while (n >= chunks_of(&p->ram->blocks[i])) {
        n -= chunks_of(&p->ram->blocks[i++]);
    }
    struct ram_block *b = &p->ram->blocks[i];
    uint64_t first = n * PASS_CHUNK_PAGES, end = first + PASS_CHUNK_PAGES;
    *chunk = (struct pass_chunk){ b, i, first, end < b->pages ? end : b->pages };
}

bool pass_next_chunk(struct pass *p, struct pass_chunk *chunk) {
    while (atomic_load_explicit(&p->cursor, memory_order_relaxed) < p->chunks) {
        uint64_t n = atomic_fetch_add_explicit(&p->cursor, 1, memory_order_relaxed);
        if (n < p->chunks && !pass_over(p, n)) {
            find_chunk(p, n, chunk);
            return true;
        }
    }
    return false;
}

bool pass_has_chunk(struct pass *p) {
    return atomic_load(&p->cursor) < p->chunks;
}
