/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/block.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "ram/digest.h"

#include <stdlib.h>
#include <sys/mman.h>

int ram_init(struct ram *ram, size_t count, struct error *err) {
    *ram = (struct ram){ .blocks = calloc(count, sizeof(ram->blocks[0])),
                         .block_pages = calloc(count, sizeof(ram->block_pages[0])) };
    if (count == 0 || count > UINT16_MAX || ram->blocks == NULL || ram->block_pages == NULL) {
        ram_free(ram);
        return error_set(err, ERROR_SYSTEM, "no memory for %zu RAM blocks", count);
    }
    ram->count = (uint16_t)count;
    return 0;
}

static int open_common(struct ram *ram, size_t i, struct backing *backing) {
    struct ram_block *b = &ram->blocks[i];
    if (backing == NULL) {
        return -1;
    }
    *b = (struct ram_block){
        .id = backing->id, .pages = backing->size / RAM_PAGE_SIZE, .backing = backing, .own = backing->own
    };
    ram->block_pages[i] = b->pages;
    return 0;
}

int ram_open_source(struct ram *ram, size_t i, struct backing *backing, struct error *err) {
    struct ram_block *b = &ram->blocks[i];
    if (open_common(ram, i, backing) < 0) {
        return -1;
    }
    b->dirty = calloc(bits_words(b->pages), sizeof(uint64_t));
    b->written = calloc(bits_words(b->pages), sizeof(uint64_t));
    b->unsettled = calloc(bits_words(b->pages), sizeof(uint64_t));
    b->sent = calloc(bits_words(b->pages), sizeof(uint64_t));
    if (b->dirty == NULL || b->written == NULL || b->unsettled == NULL || b->sent == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the page maps of %s", b->id);
    }
    return 0;
}

int ram_open_destination(struct ram *ram, size_t i, struct backing *backing, struct error *err) {
    struct ram_block *b = &ram->blocks[i];
    if (open_common(ram, i, backing) < 0) {
        return -1;
    }
    b->rejected = calloc(bits_words(b->pages), sizeof(uint64_t));
    if (b->rejected == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the page map of %s", b->id);
    }
    return 0;
}

void ram_free(struct ram *ram) {
    for (size_t i = 0; i < ram->count; i++) {
        struct ram_block *b = &ram->blocks[i];
        free(b->dirty);
        free(b->written);
        free(b->unsettled);
        free(b->sent);
        free(b->rejected);
        if (b->digests != NULL) {
            munmap(b->digests, b->digested * sizeof(b->digests[0]));
        }
        backing_close(b->backing);
    }
    free(ram->blocks);
    free(ram->block_pages);
    *ram = (struct ram){ 0 };
}

uint64_t ram_pages(const struct ram *ram) {
    uint64_t n = 0;
    for (size_t i = 0; i < ram->count; i++) {
        n += ram->blocks[i].pages;
    }
    return n;
}

uint64_t ram_dirty_pages(const struct ram *ram) {
    uint64_t n = 0;
    for (size_t i = 0; i < ram->count; i++) {
        n += bits_count(ram->blocks[i].dirty, ram->blocks[i].pages);
    }
    return n;
}

uint64_t ram_take_written(struct ram *ram) {
    uint64_t pages = 0;
    for (uint16_t i = 0; i < ram->count; i++) {
        struct ram_block *b = &ram->blocks[i];
        for (size_t word = 0; word < bits_words(b->pages); word++) {
            pages += (uint64_t)__builtin_popcountll(b->written[word]);
            b->dirty[word] |= b->written[word];
            b->unsettled[word] |= b->written[word];
            b->written[word] = 0;
        }
    }
    return pages;
}

uint64_t ram_provisional_pages(const struct ram *ram) {
    uint64_t pages = 0;
    for (uint16_t i = 0; i < ram->count; i++) {
        const struct ram_block *b = &ram->blocks[i];
        for (size_t word = 0; word < bits_words(b->pages); word++) {
            pages += (uint64_t)__builtin_popcountll(b->unsettled[word] & ~b->dirty[word]);
        }
    }
    return pages;
}

void ram_settle(struct ram *ram) {
    for (uint16_t i = 0; i < ram->count; i++) {
        struct ram_block *b = &ram->blocks[i];
        for (size_t word = 0; word < bits_words(b->pages); word++) {
            b->dirty[word] |= b->unsettled[word];
            b->unsettled[word] = 0;
        }
    }
}

void ram_forget_unsettled(struct ram *ram) {
    for (uint16_t i = 0; i < ram->count; i++) {
        bits_clear_range(ram->blocks[i].unsettled, 0, ram->blocks[i].pages);
    }
}

bool ram_is_digested(const struct ram *ram) {
    for (uint16_t i = 0; i < ram->count; i++) {
        if (ram->blocks[i].digested < ram->blocks[i].pages) {
            return false;
        }
    }
    return true;
}

uint64_t ram_allocated(const struct ram *ram) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < ram->count; i++) {
        bytes += ram->blocks[i].backing->ops->allocated(ram->blocks[i].backing);
    }
    return bytes;
}

int ram_look(struct ram_block *b, uint64_t *populated, uint64_t *gone, struct error *err) {
    return b->backing->ops->look(b->backing, populated, gone, err);
}

int ram_skip_holes(struct ram_block *b, struct error *err) {
    size_t words = bits_words(b->pages);
    CLEANUP_FREE uint64_t *maps = calloc(2 * words, sizeof(*maps));
    if (maps == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the holes of %s", b->id);
    }
    if (ram_look(b, maps, maps + words, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < words; i++) {
        b->dirty[i] &= maps[i];
    }
    return 0;
}

int ram_make_empty(struct ram_block *b, struct error *err) {
    return b->backing->ops->make_empty(b->backing, err);
}

int ram_read(const struct ram_block *b, uint64_t first, uint64_t count, uint8_t *out, struct error *err) {
    return b->backing->ops->read(b->backing, first * RAM_PAGE_SIZE, count * RAM_PAGE_SIZE, out, err);
}

int ram_place(struct ram_block *b, uint64_t first, uint64_t count, const uint8_t *data, struct error *err) {
    return b->backing->ops->place(b->backing, first * RAM_PAGE_SIZE, count * RAM_PAGE_SIZE, data, err);
}

/* At most BACKING_PARTS of them. */
static int place_parts(struct backing *b, const struct frame_run *runs, uint32_t count, const uint8_t *data,
                       struct error *err) {
    struct backing_part parts[BACKING_PARTS];
    for (uint32_t i = 0; i < count; i++) {
        parts[i] = (struct backing_part){ runs[i].first * RAM_PAGE_SIZE, (uint64_t)runs[i].count * RAM_PAGE_SIZE };
    }
    return b->ops->place_parts(b, parts, count, data, err);
}

int ram_place_runs(struct ram_block *b, const struct frame_run *runs, uint32_t count, const uint8_t *data,
                   struct error *err) {
    uint32_t most = b->backing->ops->place_parts != NULL ? BACKING_PARTS : 1;
    for (uint32_t i = 0, n; i < count; i += n) {
        n = count - i < most ? count - i : most;
        int rc = n == 1 ? ram_place(b, runs[i].first, runs[i].count, data, err)
                        : place_parts(b->backing, runs + i, n, data, err);
        if (rc < 0) {
            return -1;
        }
        for (uint32_t k = i; k < i + n; k++) {
            data += (size_t)runs[k].count * RAM_PAGE_SIZE;
        }
    }
    return 0;
}

int ram_place_zero(struct ram_block *b, uint64_t first, uint64_t count, struct error *err) {
    return b->backing->ops->zero(b->backing, first * RAM_PAGE_SIZE, count * RAM_PAGE_SIZE, err);
}
