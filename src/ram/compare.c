/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/compare.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "ram/zero.h"

#include <stdlib.h>

#define PIECE_PAGES 64u /* read at once: what stays in a core's cache */

struct run {
    ram_differs_fn *differs;
    void *opaque;
    uint16_t block;
    uint64_t first, end; /* pages; empty: none is open */
};

static void flush(struct run *r) {
    if (r->first < r->end && r->differs != NULL) {
        r->differs(r->opaque, r->block, r->first, r->end);
    }
    r->first = r->end = 0;
}

static void add(struct run *r, uint64_t page) {
    if (r->first < r->end && r->end == page) {
        r->end++;
        return;
    }
    flush(r);
    r->first = page;
    r->end = page + 1;
}

/* The destination holds zeros where nothing was sent. A page that was sent without a digest, as behind a rejection, is
 * not known. */
static bool differs(const struct ram_block *b, uint64_t page, const uint8_t *bytes, const struct digest_key *key) {
    struct page_digest sent = ram_digest(b, page);
    if (digest_known(sent)) {
        return !digest_equal(sent, digest_page(key, bytes));
    }
    return bits_test(b->sent, page) || !is_zero(bytes, RAM_PAGE_SIZE);
}

static void note_sent(struct ram_block *b, uint64_t page, const uint8_t *bytes, const struct digest_key *key) {
    bool zero = is_zero(bytes, RAM_PAGE_SIZE);
    ram_set_digest(b, page, zero ? (struct page_digest){ 0, 0 } : digest_page(key, bytes));
    if (zero) {
        bits_clear(b->sent, page);
    } else {
        bits_set(b->sent, page);
    }
}

static int compare_block(struct ram_block *b, const struct digest_key *key, bool seen, uint8_t *piece, struct run *run,
                         struct error *err) {
    for (uint64_t first = 0; first < b->pages; first += PIECE_PAGES) {
        uint64_t n = b->pages - first < PIECE_PAGES ? b->pages - first : PIECE_PAGES;
        if (ram_read(b, first, n, piece, err) < 0) {
            return -1;
        }
        for (uint64_t i = 0; i < n; i++) {
            const uint8_t *bytes = piece + i * RAM_PAGE_SIZE;
            /* one that is dirty is known, and says nothing of when it was written */
            if (bits_test(b->dirty, first + i) || !differs(b, first + i, bytes, key)) {
                continue;
            }
            add(run, first + i);
            if (seen) {
                note_sent(b, first + i, bytes, key);
            }
        }
    }
    flush(run);
    return 0;
}

int ram_compare(struct ram *ram, const struct digest_key *key, bool seen, ram_differs_fn *differs_fn, void *opaque,
                struct error *err) {
    CLEANUP_FREE uint8_t *piece = NULL;
    for (uint16_t i = 0; i < ram->count; i++) {
        if (!ram->blocks[i].compared) {
            continue;
        }
        struct run run = { .differs = differs_fn, .opaque = opaque, .block = i };
        if (piece == NULL && (piece = malloc((size_t)PIECE_PAGES * RAM_PAGE_SIZE)) == NULL) {
            return error_errno(err, ERROR_SYSTEM, "no memory to compare %s", ram->blocks[i].id);
        }
        if (compare_block(&ram->blocks[i], key, seen, piece, &run, err) < 0) {
            return -1;
        }
    }
    return 0;
}
