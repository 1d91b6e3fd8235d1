/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/heap.h"

#include "base/cleanup.h"
#include "base/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Of the record, from its host address on. */
#define AT_OFFSET 16u
#define AT_ID 52u
#define RECORD_SIZE (AT_ID + sizeof(((struct ramblock *)NULL)->id))

#define STEP (1u << 20) /* bytes whose places are tried at once */
#define HEAP_MAX (UINT64_C(1) << 30)
#define PAGE 4096u

static uint64_t word_at(const uint8_t *p) {
    uint64_t w;
    memcpy(&w, p, sizeof(w));
    return w;
}

static bool is_record_of(const uint8_t *p, const struct ramblock *b) {
    return word_at(p + AT_OFFSET) == b->offset && word_at(p + AT_OFFSET + 8) == b->used &&
           word_at(p + AT_OFFSET + 16) == b->total && strncmp((const char *)p + AT_ID, b->id, RECORD_SIZE - AT_ID) == 0;
}

/* Most places are none of any block: sizes are whole pages. */
static bool may_be_record(const uint8_t *p) {
    uint64_t used = word_at(p + AT_OFFSET + 8), total = word_at(p + AT_OFFSET + 16);
    return used != 0 && used % PAGE == 0 && total % PAGE == 0 && used <= total;
}

struct search {
    struct ramblock *blocks;
    size_t count;
    unsigned *found; /* of each block: records of it */
};

static void try_place(struct search *s, const uint8_t *p, uint64_t address) {
    for (size_t i = 0; i < s->count; i++) {
        struct ramblock *b = &s->blocks[i];
        if (is_record_of(p, b)) {
            s->found[i]++;
            b->host = word_at(p);
            b->record = address;
        }
    }
}

/* 1 with all bytes, 0 when there is less: the heap has shrunk. */
static int read_exactly(int memory, uint64_t address, uint8_t *to, size_t size, struct error *err) {
    ssize_t n = io_read_at(memory, to, size, address);
    if (n < 0 && errno != EIO && errno != EFAULT) {
        return error_errno(err, ERROR_SYSTEM, "cannot read the heap of the VMM");
    }
    return n == (ssize_t)size;
}

static int search_heap(struct search *s, int memory, const struct mapping *heap, struct error *err) {
    CLEANUP_FREE uint8_t *piece = malloc(STEP + RECORD_SIZE);
    if (piece == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory to search a heap");
    }
    for (uint64_t at = heap->start; at < heap->end; at += STEP) {
        uint64_t left = heap->end - at, size = left < STEP + RECORD_SIZE ? left : STEP + RECORD_SIZE;
        int got = read_exactly(memory, at, piece, size, err);
        if (got <= 0) {
            return got;
        }
        for (uint64_t place = 0; place < STEP && place + RECORD_SIZE <= size; place += 8) {
            if (may_be_record(piece + place)) {
                try_place(s, piece + place, at + place);
            }
        }
    }
    return 0;
}

static bool is_heap(const struct mapping *m) {
    return strcmp(m->path, "[heap]") == 0 && !m->shared && m->readable;
}

int heap_find(int memory, const struct mapping *maps, size_t map_count, struct ramblock *blocks, size_t count,
              struct error *err) {
    CLEANUP_FREE unsigned *found = calloc(count + 1, sizeof(*found));
    struct search s = { blocks, count, found };
    if (found == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory to search a heap");
    }
    for (size_t i = 0; i < count; i++) {
        blocks[i].host = blocks[i].record = 0;
    }
    for (size_t i = 0; i < map_count; i++) {
        struct mapping whole = maps[i];
        if (!is_heap(&whole)) {
            continue;
        }
        /* one that grew behind a fork is several mappings, and a record may lie across their border */
        while (i + 1 < map_count && is_heap(&maps[i + 1]) && maps[i + 1].start == whole.end) {
            whole.end = maps[++i].end;
        }
        if (whole.end - whole.start <= HEAP_MAX && search_heap(&s, memory, &whole, err) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (found[i] != 1) {
            blocks[i].host = blocks[i].record = 0;
        }
    }
    return 0;
}

bool heap_holds(int memory, const struct ramblock *b) {
    uint8_t record[RECORD_SIZE];
    struct error ignored = { 0 };
    return read_exactly(memory, b->record, record, sizeof(record), &ignored) > 0 && word_at(record) == b->host &&
           is_record_of(record, b);
}
