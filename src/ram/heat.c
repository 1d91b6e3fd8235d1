/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/heat.h"

#include "base/bits.h"
#include "ram/pass.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* After so long what was found counts half. */
#define HALF_LIFE_S 4.0
/* A segment of which less than one page in so many was found, aged, is cold: it would wait for nothing. */
#define COLD 32

/* Segments are put in order by classes of heat per page, eight to each power of two. So a choice takes time in
 * proportion to their number, which is some 100,000 in the largest guests. */
#define CLASSES_PER_OCTAVE 8
#define OCTAVES 32
#define CLASSES (CLASSES_PER_OCTAVE * OCTAVES)

static uint64_t segments_of(const struct heat *h, const struct ram_block *b) {
    uint64_t pages = h->chunks_per_segment * PASS_CHUNK_PAGES;
    return (b->pages + pages - 1) / pages;
}

static void lay_out(struct heat *h) {
    uint64_t most = h->chunks_per_segment * PASS_CHUNK_PAGES;
    size_t n = 0;
    for (uint16_t i = 0; i < h->ram->count; i++) {
        uint64_t pages = h->ram->blocks[i].pages;
        h->blocks[i] = n;
        for (uint64_t first = 0; first < pages; first += most) {
            struct heat_segment *s = &h->segments[n++];
            *s = (struct heat_segment){ .chunk = h->chunks, .first = first, .block = i };
            s->pages = (uint32_t)(pages - first < most ? pages - first : most);
            s->chunks = (s->pages + PASS_CHUNK_PAGES - 1) / PASS_CHUNK_PAGES;
            h->chunks += s->chunks;
        }
    }
}

int heat_open(struct heat *h, const struct ram *ram, uint64_t segment_size, struct error *err) {
    uint64_t chunk = (uint64_t)PASS_CHUNK_PAGES * RAM_PAGE_SIZE;
    *h = (struct heat){ .ram = ram, .chunks_per_segment = segment_size / chunk + (segment_size % chunk != 0) };
    for (uint16_t i = 0; i < ram->count; i++) {
        h->count += segments_of(h, &ram->blocks[i]);
    }
    h->segments = calloc(h->count > 0 ? h->count : 1, sizeof(h->segments[0]));
    h->blocks = calloc(ram->count > 0 ? ram->count : 1, sizeof(h->blocks[0]));
    if (h->segments == NULL || h->blocks == NULL) {
        heat_close(h);
        return error_set(err, ERROR_SYSTEM, "no memory for the heat of %zu segments", h->count);
    }
    lay_out(h);
    return 0;
}

void heat_close(struct heat *h) {
    free(h->segments);
    free(h->blocks);
    *h = (struct heat){ 0 };
}

void heat_note(struct heat *h, uint16_t block, uint64_t first, uint64_t end) {
    uint64_t pages = h->chunks_per_segment * PASS_CHUNK_PAGES;
    struct heat_segment *s = &h->segments[h->blocks[block] + first / pages];
    while (first < end) {
        uint64_t border = s->first + s->pages, upto = end < border ? end : border;
        s->found += (float)(upto - first);
        first = upto;
        s++;
    }
}

void heat_age(struct heat *h, int64_t ns) {
    float left = (float)exp2(-(double)ns / (HALF_LIFE_S * 1e9));
    for (size_t i = 0; i < h->count; i++) {
        h->segments[i].found *= left;
    }
}

uint64_t heat_count(struct heat *h) {
    uint64_t sum = 0;
    for (size_t i = 0; i < h->count; i++) {
        struct heat_segment *s = &h->segments[i];
        /* A segment begins with a word of the map. */
        s->dirty = (uint32_t)bits_count(h->ram->blocks[s->block].dirty + s->first / 64, s->pages);
        sum += s->dirty;
    }
    return sum;
}

/* 0: not to wait. */
static unsigned class_of(const struct heat_segment *s) {
    float heat = s->found / (float)s->pages;
    if (s->dirty == 0 || !(heat * COLD >= 1)) {
        return 0;
    }
    float class = (log2f(heat * COLD)) * CLASSES_PER_OCTAVE + 1;
    return class < CLASSES - 1 ? (unsigned)class : CLASSES - 1;
}

static bool was_passed(const struct heat_segment *s, const uint64_t *passed) {
    return bits_next_set(passed, s->chunk, s->chunk + s->chunks) < s->chunk + s->chunks;
}

/* What has been taken so far. */
struct taken {
    uint64_t chunks, dirty;
};

static void take(const struct heat_segment *s, struct taken *t, uint64_t *chunks) {
    bits_set_range(chunks, s->chunk, s->chunk + s->chunks);
    t->chunks += s->chunks;
    t->dirty += s->dirty;
}

static void add(struct taken *sum, const struct taken *part) {
    sum->chunks += part->chunks;
    sum->dirty += part->dirty;
}

static bool fit(const struct heat_limits *limits, const struct taken *t, const struct taken *more) {
    return t->chunks + more->chunks <= limits->chunks && t->dirty + more->dirty <= limits->dirty;
}

uint64_t heat_choose(const struct heat *h, const struct heat_limits *limits, const uint64_t *passed, uint64_t *chunks) {
    struct taken classes[CLASSES] = { { 0, 0 } }, taken = { 0, 0 }, whole;
    memset(chunks, 0, bits_words(h->chunks) * sizeof(chunks[0]));
    for (size_t i = 0; i < h->count; i++) {
        const struct heat_segment *s = &h->segments[i];
        if (was_passed(s, passed)) {
            take(s, &taken, chunks);
        } else {
            add(&classes[class_of(s)], &(struct taken){ s->chunks, s->dirty });
        }
    }
    /* Whole classes from the hottest on, and of the one that is too much what is still within the limits. */
    unsigned border = CLASSES - 1;
    for (whole = taken; border > 0 && fit(limits, &whole, &classes[border]); border--) {
        add(&whole, &classes[border]);
    }
    struct taken rest = whole;
    for (size_t i = 0; i < h->count; i++) {
        const struct heat_segment *s = &h->segments[i];
        unsigned class = was_passed(s, passed) ? 0 : class_of(s);
        struct taken one = { s->chunks, s->dirty };
        if (class > 0 && (class > border || (class == border && fit(limits, &rest, &one)))) {
            take(s, &taken, chunks);
            if (class == border) {
                add(&rest, &one);
            }
        }
    }
    return taken.dirty;
}
