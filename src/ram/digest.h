/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Digests of pages: 128 bits that stand for the 4 KiB of one version of a page.
 *
 * They serve twice. A batch carries the digest of its pages' digests, against damage. And the source remembers the
 * digest of what it last sent of each page: a page that was written with the same content is not sent again, and of a
 * 2 MiB host page that was written somewhere only the changed 4 KiB are.
 *
 * XXH3 is no cryptographic hash. Its secret is random and new for each migration, and known to the two sides only, so
 * that nothing inside the guest can make two contents with one digest on purpose; by chance it is 2^-128 a page.
 */
#ifndef GODWIT_RAM_DIGEST_H
#define GODWIT_RAM_DIGEST_H

#include "base/error.h"
#include "ram/block.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_KEY_SIZE 192
#define DIGEST_KEY_TEXT_SIZE (2 * DIGEST_KEY_SIZE + 1)

struct digest_key {
    uint8_t secret[DIGEST_KEY_SIZE];
};

/* `high` and `low` both zero stand for "not known"; no page is given that digest. */
struct page_digest {
    uint64_t low, high;
};

int digest_key_make(struct digest_key *key, struct error *err);
/* As hexadecimal text for the control link, and back; -1 when the text is none. */
void digest_key_format(const struct digest_key *key, char text[DIGEST_KEY_TEXT_SIZE]);
int digest_key_parse(struct digest_key *key, const char *text);

struct page_digest digest_page(const struct digest_key *key, const uint8_t *page);
/* Of `count` pages that travel together, from their own digests. */
struct page_digest digest_batch(const struct digest_key *key, const struct page_digest *pages, size_t count);

static inline bool digest_equal(struct page_digest a, struct page_digest b) {
    return a.low == b.low && a.high == b.high;
}

static inline bool digest_known(struct page_digest d) {
    return d.low != 0 || d.high != 0;
}

/* Source, before the first pass: gives the blocks their tables of last sent digests, `bytes` in all, in the order of
 * the blocks. Pages beyond that are always sent when they were written. Memory is used only for pages that are sent. */
int ram_digests_open(struct ram *ram, uint64_t bytes, struct error *err);

/* What was last sent of a page; not known outside the table. */
static inline struct page_digest ram_digest(const struct ram_block *b, uint64_t page) {
    return page < b->digested ? b->digests[page] : (struct page_digest){ 0, 0 };
}

static inline void ram_set_digest(struct ram_block *b, uint64_t page, struct page_digest d) {
    if (page < b->digested) {
        b->digests[page] = d;
    }
}

#endif
