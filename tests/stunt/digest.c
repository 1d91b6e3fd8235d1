/* SPDX-License-Identifier: Apache-2.0 */
#include "digest.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define CHUNK (256 * STUNT_PAGE)

struct walk {
    const struct ram *ram;
    struct digest *digest;
    XXH3_state_t *hash;
    uint8_t *buffer; /* CHUNK bytes */
};

static void add_page(struct walk *walk, uint64_t page, const uint8_t *bytes) {
    static const uint8_t zeros[STUNT_PAGE];
    if (memcmp(bytes, zeros, STUNT_PAGE) == 0) {
        return;
    }
    uint64_t item[2] = { page, XXH3_64bits(bytes, STUNT_PAGE) };
    XXH3_64bits_update(walk->hash, item, sizeof(item));
    uint16_t brief = (uint16_t)item[1];
    walk->digest->pages[page] = brief != 0 ? brief : 1;
}

/* Reads with pread(): it leaves holes alone on tmpfs and hugetlbfs, where looking through the mapping would fill them.
 */
static int add_range(struct walk *walk, uint64_t from, uint64_t to, struct error *err) {
    while (from < to) {
        size_t want = to - from < CHUNK ? (size_t)(to - from) : CHUNK;
        for (size_t have = 0; have < want;) {
            ssize_t n = pread(walk->ram->fd, walk->buffer + have, want - have, (off_t)(from + have));
            if (n <= 0) {
                return error_errno(err, ERROR_SYSTEM, "reading %s", walk->ram->path);
            }
            have += (size_t)n;
        }
        for (size_t at = 0; at < want; at += STUNT_PAGE) {
            add_page(walk, (from + at) / STUNT_PAGE, walk->buffer + at);
        }
        from += want;
    }
    return 0;
}

static int add_file(struct walk *walk, struct error *err) {
    const struct ram *ram = walk->ram;
    if (ram->hugetlb) {
        return add_range(walk, 0, ram->size, err); /* knows no SEEK_DATA */
    }
    uint64_t at = 0;
    while (at < ram->size) {
        off_t data = lseek(ram->fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            return 0; /* holes up to the end */
        }
        off_t hole = data < 0 ? -1 : lseek(ram->fd, data, SEEK_HOLE);
        if (hole < 0) {
            return error_errno(err, ERROR_SYSTEM, "looking for data in %s", ram->path);
        }
        uint64_t from = (uint64_t)data / STUNT_PAGE * STUNT_PAGE;
        at = ((uint64_t)hole + STUNT_PAGE - 1) / STUNT_PAGE * STUNT_PAGE;
        at = at < ram->size ? at : ram->size;
        if (add_range(walk, from, at, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Whether the process has memory of its own at a page: a look does not touch it. */
static int is_populated(int pagemap, const uint8_t *at, struct error *err) {
    uint64_t entry;
    if (pread(pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)at / STUNT_PAGE * sizeof(entry))) != sizeof(entry)) {
        return error_errno(err, ERROR_SYSTEM, "reading the page map");
    }
    return entry >> 62 != 0; /* present, or swapped */
}

static int add_memory(struct walk *walk, struct error *err) {
    CLEANUP_CLOSE int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    for (uint64_t at = 0; at < walk->ram->size; at += STUNT_PAGE) {
        int populated = is_populated(pagemap, walk->ram->map + at, err);
        if (populated < 0) {
            return -1;
        }
        if (populated > 0) {
            add_page(walk, at / STUNT_PAGE, walk->ram->map + at);
        }
    }
    return 0;
}

int digest_take(const struct ram *ram, struct digest *digest, struct error *err) {
    CLEANUP_FREE uint8_t *buffer = malloc(CHUNK);
    XXH3_state_t *hash = XXH3_createState();
    *digest = (struct digest){ .count = ram->size / STUNT_PAGE };
    digest->pages = calloc(digest->count, sizeof(*digest->pages));
    if (buffer == NULL || hash == NULL || digest->pages == NULL) {
        XXH3_freeState(hash);
        return error_set(err, ERROR_SYSTEM, "no memory to hash %s", ram->id);
    }
    XXH3_64bits_reset(hash);
    struct walk walk = { ram, digest, hash, buffer };
    int result = (ram->own ? add_memory(&walk, err) : add_file(&walk, err));
    digest->value = XXH3_64bits_digest(hash);
    XXH3_freeState(hash);
    return result;
}

void digest_free(struct digest *digest) {
    free(digest->pages);
    digest->pages = NULL;
}
