/* SPDX-License-Identifier: Apache-2.0 */
#include "parcel.h"

#include "codec/codec.h"
#include "codec/delta.h"

void parcel_digest(struct frame *f, const uint8_t *bytes) {
    struct page_digest digests[PARCEL_PAGES];
    for (uint32_t i = 0; i < f->pages; i++) {
        digests[i] = digest_page(rig_key(), bytes + (size_t)i * RAM_PAGE_SIZE);
    }
    struct page_digest d = digest_batch(rig_key(), digests, f->pages);
    f->digest[0] = d.low;
    f->digest[1] = d.high;
}

static struct parcel parcel_of(enum frame_kind kind, uint32_t pass, uint64_t first, uint32_t count) {
    struct parcel p = { .run = { first, count } };
    p.f = (struct frame){ .kind = (uint8_t)kind, .thing = FRAME_RAM, .pass = pass, .runs = 1, .pages = count };
    return p;
}

struct parcel parcel_pages(uint32_t pass, uint64_t first, uint32_t count, int value) {
    struct parcel p = parcel_of(FRAME_PAGES, pass, first, count);
    p.f.payload = count * RAM_PAGE_SIZE;
    memset(p.payload, value, p.f.payload);
    parcel_digest(&p.f, p.payload);
    return p;
}

struct parcel parcel_lz4(uint32_t pass, uint64_t first, uint32_t count, int value) {
    struct parcel p = parcel_pages(pass, first, count, value), raw = p;
    void *encoder = codec_lz4.encoder_new();
    assert_non_null(encoder);
    p.f.codec = CODEC_LZ4;
    p.f.payload = (uint32_t)codec_lz4.encode(encoder, raw.payload, raw.f.payload, p.payload, raw.f.payload - 1, 1);
    assert_true(p.f.payload > 0);
    codec_lz4.encoder_free(encoder);
    return p;
}

struct parcel parcel_zero(uint32_t pass, uint64_t first, uint32_t count) {
    return parcel_of(FRAME_ZERO, pass, first, count);
}

struct parcel parcel_changes(uint32_t pass, uint64_t first, uint32_t count, const uint8_t *before, const uint8_t *now) {
    struct parcel p = parcel_of(FRAME_DELTA, pass, first, count);
    for (size_t at = 0; at < (size_t)count * RAM_PAGE_SIZE; at += RAM_PAGE_SIZE) {
        size_t n = delta_encode(before + at, now + at, RAM_PAGE_SIZE, p.payload + p.f.payload, RAM_PAGE_SIZE);
        assert_true(n > 0);
        p.f.payload += (uint32_t)n;
    }
    parcel_digest(&p.f, now);
    return p;
}

void parcel_post_head(struct rig *r, unsigned channel, const struct parcel *p) {
    uint8_t head[FRAME_HEADER_SIZE + FRAME_RUN_SIZE];
    struct error err = { 0 };
    size_t size = frame_encode(&p->f, &p->run, head);
    assert_ok(conn_write(&r->to[channel], head, size, &err) == 0, &err);
}

void parcel_post_payload(struct rig *r, unsigned channel, const struct parcel *p) {
    struct error err = { 0 };
    assert_ok(conn_write(&r->to[channel], p->payload, p->f.payload, &err) == 0, &err);
}

void parcel_post(struct rig *r, unsigned channel, const struct parcel *p) {
    parcel_post_head(r, channel, p);
    if (p->f.payload > 0) {
        parcel_post_payload(r, channel, p);
    }
}

void parcel_post_end(struct rig *r, unsigned channel, uint32_t pass, uint32_t count) {
    struct parcel p = { .f = { .kind = FRAME_PASS_END, .pass = pass, .pages = count } };
    parcel_post_head(r, channel, &p);
}
