/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream that a QEMU writes (vmm/qemu/stream.h). The input: a byte that says which blocks are carried, four that
 * cut the stream into pieces, the stream.
 */
#include "../support/stream_model.h"
#include "fuzz.h"
#include "vmm/qemu/stream.h"

#include <string.h>

static unsigned mode;

/* Blocks by a letter of their name, so that changed names change sides. */
static bool is_carried(void *opaque, const char *block) {
    (void)opaque;
    return mode != 0 && (mode == 255 || (((unsigned)(unsigned char)block[0] ^ mode) & 1) != 0);
}

struct output {
    uint8_t *data;
    size_t size, room;
};

static int take_output(void *opaque, const uint8_t *data, size_t size, struct error *err) {
    struct output *o = opaque;
    (void)err;
    MUST(size > 0 && size <= o->room - o->size);
    memcpy(o->data + o->size, data, size);
    o->size += size;
    return 0;
}

struct result {
    struct output out;
    int rc;
    const char *why;
    uint64_t pages;
};

/* Pieces of up to 2^(3 n + 1) bytes, n from 0 to 5; `cuts` 0: one piece. */
static struct result run(const uint8_t *data, size_t size, uint32_t cuts) {
    struct error err = { 0 };
    struct result r = { .out = { .data = copy_of(NULL, 0), .room = size + 8192 } };
    free(r.out.data);
    r.out.data = malloc(r.out.room);
    MUST(r.out.data != NULL);
    const struct vmm_carried carried = { .is_carried = is_carried };
    const struct vmm_sink sink = { .take = take_output, .opaque = &r.out };
    struct vmm_filter *f = qemu_stream_open(&carried, &err);
    MUST(f != NULL);
    for (size_t at = 0; at < size && r.rc == 0;) {
        cuts = cuts == 0 ? 0 : cuts * 1664525u + 1013904223u;
        size_t n = cuts == 0 ? size : 1 + (cuts >> 8) % (2u << 3 * (cuts >> 29) % 18);
        n = n < size - at ? n : size - at;
        uint8_t *piece = copy_of(data + at, n); /* the filter must not look at what was before */
        r.rc = f->ops->feed(f, piece, n, &sink, &err);
        free(piece);
        at += n;
    }
    r.rc = r.rc == 0 ? f->ops->finish(f, &sink, &err) : r.rc;
    MUST((r.rc == 0) == !error_is_set(&err));
    MUST(r.rc != 0 || atomic_load(&f->counts.in) == size);
    MUST(atomic_load(&f->counts.out) == r.out.size);
    r.why = atomic_load(&f->counts.why);
    r.pages = atomic_load(&f->counts.pages);
    f->ops->close(f);
    return r;
}

static void must_be_the_same(const struct result *a, const struct result *b) {
    MUST(a->rc == b->rc && a->why == b->why && a->pages == b->pages && a->out.size == b->out.size);
    MUST(memcmp(a->out.data, b->out.data, a->out.size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct model in, out;
    struct input input = { data, size };
    mode = take(&input, 1);
    uint32_t cuts = take(&input, 4) | 1;
    struct result whole = run(input.data, input.size, 0), cut = run(input.data, input.size, cuts);
    must_be_the_same(&whole, &cut);
    if (mode == 0) {
        MUST(whole.rc == 0 && whole.pages == 0 && whole.out.size == input.size);
        MUST(input.size == 0 || memcmp(whole.out.data, input.data, input.size) == 0);
    }
    model_load(&in, input.data, input.size);
    model_load(&out, whole.out.data, whole.out.size);
    if (whole.rc == 0 && in.end != MODEL_BAD) {
        MUST(model_agrees(&in, &out, is_carried, whole.why != NULL));
    }
    if (whole.rc == 0 && whole.why == NULL) { /* nothing is left that could be left out */
        struct result again = run(whole.out.data, whole.out.size, 0);
        MUST(again.pages == 0 && again.out.size == whole.out.size);
        free(again.out.data);
    }
    free(whole.out.data);
    free(cut.out.data);
    return 0;
}
