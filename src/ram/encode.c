/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/encode.h"

#include "base/clock.h"
#include "codec/codec.h"
#include "ram/sample.h"

#include <stdlib.h>

void encoder_free(struct encoder *e) {
    for (unsigned id = 0; id < CODEC_COUNT; id++) {
        if (e->states[id] != NULL) {
            codec_by_id(id)->encoder_free(e->states[id]);
            e->states[id] = NULL;
        }
    }
    free(e->rival);
    e->rival = NULL;
}

static int prepare(struct encoder *e, const struct rung *r, uint8_t **out, size_t size, struct error *err) {
    if (r->codec == CODEC_NONE) {
        return 0;
    }
    void **state = &e->states[r->codec];
    if (*state == NULL) {
        *state = codec_by_id(r->codec)->encoder_new();
    }
    if (*out == NULL) {
        *out = malloc(size);
    }
    return *state != NULL && *out != NULL ? 0 : error_set(err, ERROR_SYSTEM, "no memory to compress pages");
}

/* Compresses into `out`; returns the size of the result, `raw` when it does not shrink. */
static size_t run(struct encoder *e, const struct rung *r, const struct batch *b, uint8_t *out, struct span *span) {
    size_t raw = batch_raw_size(b);
    int64_t begin = clock_now(), cpu = clock_thread_cpu();
    size_t n =
        codec_by_id(r->codec)->encode(e->states[r->codec], b->bytes, raw, out, batch_encoded_capacity(b), r->level);
    *span = (struct span){ clock_thread_cpu() - cpu, clock_now() - begin };
    return n > 0 ? n : raw;
}

static void settle(struct batch *b, const struct rung *r, const uint8_t *out, size_t size) {
    bool shrunk = size < batch_raw_size(b);
    b->codec = shrunk ? (uint8_t)r->codec : CODEC_NONE;
    b->payload = shrunk ? out : b->bytes;
    b->payload_size = (uint32_t)size;
}

/* Compresses the batch with the rival too, and keeps the smaller result. */
static int compare(struct encoder *e, const struct pick *pick, struct batch *b, struct error *err) {
    if (prepare(e, &pick->rival, &e->rival, (size_t)b->max_pages * RAM_PAGE_SIZE, err) < 0) {
        return -1;
    }
    struct span span;
    size_t size = run(e, &pick->rival, b, e->rival, &span);
    if (choice_compared(e->choice, pick, batch_raw_size(b), b->payload_size, size, span.cpu)) {
        uint8_t *mine = b->encoded;
        b->encoded = e->rival;
        e->rival = mine;
        settle(b, &pick->rival, b->encoded, size);
    }
    return 0;
}

bool encode_choose(struct encoder *e, struct batch *b, struct pick *pick) {
    static const struct rung raw = { CODEC_NONE, 0 };
    settle(b, &raw, b->bytes, batch_raw_size(b));
    choice_pick(e->choice, e->compression, b->kind, b->together, pick);
    if (pick->use.codec == CODEC_NONE && pick->rival_index < 0 && !pick->device) {
        return false;
    }
    bool bypass = atomic_load_explicit(&e->compression->bypass, memory_order_relaxed);
    if (!bypass || pick->retrial || !sample_is_noise(b->bytes, batch_raw_size(b))) {
        return true;
    }
    choice_bypassed(e->choice, pick);
    return false;
}

int encode_batch(struct encoder *e, const struct pick *pick, struct batch *b, struct error *err) {
    if (pick->use.codec != CODEC_NONE) {
        if (prepare(e, &pick->use, &b->encoded, (size_t)b->max_pages * RAM_PAGE_SIZE, err) < 0) {
            return -1;
        }
        struct span span;
        size_t size = run(e, &pick->use, b, b->encoded, &span);
        settle(b, &pick->use, b->encoded, size);
        choice_encoded(e->choice, pick, batch_raw_size(b), size, span);
    }
    return pick->rival_index >= 0 ? compare(e, pick, b, err) : 0;
}

void encode_count(struct ram_counters *n, const struct batch *b) {
    if (b->full.pages > 0) {
        count(&n->normal, b->full.pages);
        count(&n->codecs[b->codec].batches, 1);
        count(&n->codecs[b->codec].in, batch_raw_size(b));
        count(&n->codecs[b->codec].out, b->payload_size);
    }
    count(&n->delta_bytes, b->delta_bytes);
}
