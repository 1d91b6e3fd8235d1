/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream that a QEMU writes into a relay (relay/reader.h). The input: four bytes that cut the stream into pieces,
 * the stream.
 */
#include "fuzz.h"
#include "relay/reader.h"

#include <stdbool.h>

struct output {
    uint8_t *data;
    size_t size, room;
    uint64_t shape; /* of the items, but for how bytes are cut */
    bool ended;
};

static void put(struct output *o, const uint8_t *data, size_t size) {
    MUST(size <= o->room - o->size);
    if (size > 0) {
        memcpy(o->data + o->size, data, size);
    }
    o->size += size;
}

static void shape(struct output *o, uint64_t value) {
    o->shape = (o->shape ^ value) * UINT64_C(0x9e3779b97f4a7c15);
}

static int take_item(void *opaque, const struct item *i, struct error *err) {
    struct output *o = opaque;
    uint8_t head[ITEM_HEAD_MOST];
    (void)err;
    MUST(!o->ended);
    put(o, head, item_head(i, head));
    put(o, i->data, i->size);
    switch (i->kind) {
    case ITEM_BYTES:
        MUST(i->size > 0 && item_head(i, head) == 0);
        break;
    case ITEM_PAGE:
    case ITEM_ZERO:
        MUST(i->size == (i->kind == ITEM_PAGE ? ITEM_PAGE_SIZE : 0) && i->offset % ITEM_PAGE_SIZE == 0);
        shape(o, i->offset + i->kind + i->fill + (uint64_t)strlen(i->block));
        break;
    default:
        MUST(i->size == 0);
        shape(o, 100u + i->mark);
        o->ended = i->mark == MARK_END;
        break;
    }
    return 0;
}

/* Pieces of up to 2^(3 n + 1) bytes, n from 0 to 5; `cuts` 0: one piece. */
static struct output run(const uint8_t *data, size_t size, uint32_t cuts) {
    struct error err = { 0 };
    struct output o = { .data = copy_of(data, size), .room = size };
    const struct item_sink sink = { .take = take_item, .opaque = &o };
    struct reader *r = reader_open(&sink, &err);
    MUST(r != NULL);
    for (size_t at = 0; at < size;) {
        cuts = cuts == 0 ? 0 : cuts * 1664525u + 1013904223u;
        size_t n = cuts == 0 ? size : 1 + (cuts >> 8) % (2u << 3 * (cuts >> 29) % 18);
        n = n < size - at ? n : size - at;
        uint8_t *piece = copy_of(data + at, n); /* the reader must not look at what was before */
        MUST(reader_feed(r, piece, n, &err) == 0);
        free(piece);
        at += n;
    }
    MUST(reader_finish(r, &err) == 0 && o.ended && reader_counts(r)->bytes == size);
    reader_close(r);
    MUST(o.size == size && memcmp(o.data, data, size) == 0);
    free(o.data);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = { data, size };
    uint32_t cuts = take(&input, 4) | 1;
    struct output whole = run(input.data, input.size, 0), cut = run(input.data, input.size, cuts);
    MUST(whole.shape == cut.shape);
    return 0;
}
