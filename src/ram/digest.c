/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/digest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h> /* the widest vectors that this CPU has: twice as fast and more */
#else
#include <xxhash.h>
#endif

int digest_key_make(struct digest_key *key, struct error *err) {
    size_t have = 0;
    while (have < DIGEST_KEY_SIZE) {
        ssize_t n = getrandom(key->secret + have, DIGEST_KEY_SIZE - have, 0);
        if (n < 0 && errno != EINTR) {
            return error_errno(err, ERROR_SYSTEM, "getrandom");
        }
        have += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

void digest_key_format(const struct digest_key *key, char text[DIGEST_KEY_TEXT_SIZE]) {
    for (size_t i = 0; i < DIGEST_KEY_SIZE; i++) {
        snprintf(text + 2 * i, 3, "%02x", key->secret[i]);
    }
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int digest_key_parse(struct digest_key *key, const char *text) {
    if (text == NULL || strlen(text) != 2 * (size_t)DIGEST_KEY_SIZE) {
        return -1;
    }
    for (size_t i = 0; i < DIGEST_KEY_SIZE; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return -1;
        }
        key->secret[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

static struct page_digest digest(const struct digest_key *key, const void *data, size_t size) {
    XXH128_hash_t h = XXH3_128bits_withSecret(data, size, key->secret, DIGEST_KEY_SIZE);
    bool taken = h.low64 == 0 && h.high64 == 0; /* by "not known" */
    return (struct page_digest){ taken ? 1 : h.low64, h.high64 };
}

struct page_digest digest_page(const struct digest_key *key, const uint8_t *page) {
    return digest(key, page, RAM_PAGE_SIZE);
}

struct page_digest digest_batch(const struct digest_key *key, const struct page_digest *pages, size_t count) {
    return digest(key, pages, count * sizeof(pages[0]));
}

static int open_table(struct ram_block *b, uint64_t pages, struct error *err) {
    void *table = mmap(NULL, pages * sizeof(struct page_digest), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (table == MAP_FAILED) {
        return error_errno(err, ERROR_SYSTEM, "no room for the digests of %s", b->id);
    }
    /* a fault for each 256 pages of the guest was a twentieth of what sending takes */
    (void)madvise(table, pages * sizeof(struct page_digest), MADV_HUGEPAGE);
    b->digests = table;
    b->digested = pages;
    return 0;
}

int ram_digests_open(struct ram *ram, uint64_t bytes, struct error *err) {
    uint64_t left = bytes / sizeof(struct page_digest);
    for (size_t i = 0; i < ram->count; i++) {
        struct ram_block *b = &ram->blocks[i];
        uint64_t pages = b->pages < left ? b->pages : left;
        if (pages > 0 && open_table(b, pages, err) < 0) {
            return -1;
        }
        left -= pages;
    }
    return 0;
}
