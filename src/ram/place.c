/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/place.h"

#include "base/bits.h"
#include "base/clock.h"
#include "codec/delta.h"

#include <stdlib.h>
#include <string.h>

int placer_init(struct placer *p, struct ram *ram, const struct digest_key *key, _Atomic uint64_t *rejected,
                struct receive_costs *costs, struct placer_devices *devices, uint32_t pages_per_batch,
                struct error *err) {
    size_t size = (size_t)pages_per_batch * RAM_PAGE_SIZE;
    p->ram = ram;
    p->key = key;
    p->rejected = rejected;
    p->costs = costs;
    p->devices = devices;
    p->payload = devices->accel != NULL ? accel_alloc(devices->accel, size) : aligned_alloc(RAM_PAGE_SIZE, size);
    p->pages = aligned_alloc(RAM_PAGE_SIZE, size);
    return p->payload != NULL && p->pages != NULL ? 0
                                                  : error_set(err, ERROR_SYSTEM, "no memory for a receiving thread");
}

void placer_free(struct placer *p) {
    for (unsigned id = 0; id < CODEC_COUNT; id++) {
        if (p->decoders[id] != NULL) {
            codec_by_id(id)->decoder_free(p->decoders[id]);
        }
    }
    if (p->devices != NULL && p->devices->accel == NULL) {
        free(p->payload);
    }
    free(p->pages);
}

static size_t raw_size(const struct frame *f) {
    return (size_t)f->pages * RAM_PAGE_SIZE;
}

int place_check(const struct frame *f, struct error *err) {
    if (f->kind != FRAME_PAGES) {
        return f->codec == CODEC_NONE ? 0 : error_set(err, ERROR_PEER, "a frame with a codec arrived that has none");
    }
    if (f->codec == CODEC_NONE) {
        return f->payload == raw_size(f)
                   ? 0
                   : error_set(err, ERROR_PEER, "a batch of %u pages with %u bytes arrived", f->pages, f->payload);
    }
    return codec_by_id(f->codec) != NULL
               ? 0
               : error_set(err, ERROR_PEER, "a batch with the unknown codec %u arrived", f->codec);
}

/* ---- rejected pages: bits that threads share; hardly ever is one set ---- */

static void mark_rejected(struct placer *p, struct ram_block *b, uint64_t page, bool rejected) {
    uint64_t bit = UINT64_C(1) << (page % 64);
    uint64_t *word = &b->rejected[page / 64];
    uint64_t before =
        rejected ? __atomic_fetch_or(word, bit, __ATOMIC_RELAXED) : __atomic_fetch_and(word, ~bit, __ATOMIC_RELAXED);
    if (((before & bit) != 0) != rejected) {
        atomic_fetch_add(p->rejected, rejected ? 1 : UINT64_MAX);
    }
}

static void mark_all(struct placer *p, const struct frame *f, bool rejected) {
    struct ram_block *b = &p->ram->blocks[f->index];
    for (uint32_t i = 0; i < f->runs; i++) {
        for (uint64_t page = p->runs[i].first; page < p->runs[i].first + p->runs[i].count; page++) {
            mark_rejected(p, b, page, rejected);
        }
    }
}

static bool any_rejected(const struct placer *p, const struct frame *f) {
    const uint64_t *map = p->ram->blocks[f->index].rejected;
    for (uint32_t i = 0; atomic_load(p->rejected) > 0 && i < f->runs; i++) {
        for (uint64_t page = p->runs[i].first; page < p->runs[i].first + p->runs[i].count; page++) {
            if (__atomic_load_n(&map[page / 64], __ATOMIC_RELAXED) >> (page % 64) & 1) {
                return true;
            }
        }
    }
    return false;
}

static int reject(struct placer *p, const struct frame *f) {
    mark_all(p, f, true);
    return 1;
}

/* ---- the kinds of frames ---- */

static int place_zeros(struct placer *p, const struct frame *f, struct error *err) {
    for (uint32_t i = 0; i < f->runs; i++) {
        if (ram_place_zero(&p->ram->blocks[f->index], p->runs[i].first, p->runs[i].count, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static bool digest_is_right(struct placer *p, const struct frame *f, const uint8_t *pages) {
    for (uint32_t i = 0; i < f->pages; i++) {
        p->digests[i] = digest_page(p->key, pages + (size_t)i * RAM_PAGE_SIZE);
    }
    struct page_digest d = digest_batch(p->key, p->digests, f->pages);
    return d.low == f->digest[0] && d.high == f->digest[1];
}

static int place_runs(struct placer *p, const struct frame *f, const uint8_t *pages, struct error *err) {
    return ram_place_runs(&p->ram->blocks[f->index], p->runs, f->runs, pages, err);
}

static int place_right(struct placer *p, const struct frame *f, const uint8_t *pages, struct error *err) {
    int64_t begin = clock_now();
    int rc = place_runs(p, f, pages, err);
    cost_add(&p->costs->place, raw_size(f), clock_now() - begin);
    return rc;
}

static int wrong_digest(const struct frame *f, struct error *err) {
    return error_set(err, ERROR_CORRUPT,
                     "a batch of pass %u does not have its digest: it was damaged on its way or by a codec", f->pass);
}

#define ROOM_PATIENCE (200 * CLOCK_MS)

/* Which device has decoded a batch, or failed to; -1: none was asked. */
static int decode_by_device(struct placer *p, const struct frame *f, bool *done) {
    struct placer_devices *d = p->devices;
    *done = false;
    if (d->accel == NULL || f->codec != CODEC_DEFLATE || atomic_load(&d->urgent)) {
        return -1;
    }
    struct accel_job job = {
        .work = ACCEL_DECOMPRESS, .in = p->payload, .size = f->payload, .capacity = raw_size(f), .codec = CODEC_DEFLATE
    };
    if (accel_run(d->accel, &job, ROOM_PATIENCE) < 0) {
        atomic_fetch_add(&d->fallbacks, 1);
        return -1;
    }
    *done = job.status == ACCEL_OK;
    if (*done) {
        memcpy(p->pages, job.out, raw_size(f)); /* the device might still write there, behind the digest's back */
    } else {
        atomic_fetch_add(&d->fallbacks, 1);
    }
    accel_release(d->accel, &job);
    return (int)job.device;
}

static int decode(struct placer *p, const struct frame *f, struct error *err) {
    const struct codec_ops *codec = codec_by_id(f->codec);
    if (p->decoders[f->codec] == NULL && (p->decoders[f->codec] = codec->decoder_new()) == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory to decode pages");
    }
    int64_t begin = clock_now();
    int rc = codec->decode(p->decoders[f->codec], p->payload, f->payload, p->pages, raw_size(f));
    cost_add(&p->costs->decode[f->codec], raw_size(f), clock_now() - begin);
    if (rc == 0) {
        return 0;
    }
    return error_set(err, ERROR_CORRUPT, "a batch of pass %u does not decode as %s: it was damaged on its way", f->pass,
                     codec->name);
}

static int place_pages(struct placer *p, const struct frame *f, struct error *err) {
    const uint8_t *pages = f->codec == CODEC_NONE ? p->payload : p->pages;
    bool done;
    int device = decode_by_device(p, f, &done);
    if (done && digest_is_right(p, f, pages)) {
        return place_right(p, f, pages, err);
    }
    if (f->codec != CODEC_NONE && decode(p, f, err) < 0) {
        return f->device != 0 && err->class == ERROR_CORRUPT ? (error_clear(err), reject(p, f)) : -1;
    }
    if (!digest_is_right(p, f, pages)) {
        return f->device != 0 ? reject(p, f) : wrong_digest(f, err);
    }
    if (device >= 0) {
        accel_blame(p->devices->accel, (unsigned)device); /* software can, so the device was wrong */
    }
    return place_right(p, f, pages, err);
}

/* The version before is in guest memory: nobody writes there but this migration, in the order of its passes. */
static int place_changes(struct placer *p, const struct frame *f, struct error *err) {
    struct ram_block *b = &p->ram->blocks[f->index];
    const uint8_t *in = p->payload, *end = p->payload + f->payload;
    uint8_t *page = p->pages;
    if (any_rejected(p, f)) {
        return reject(p, f);
    }
    for (uint32_t i = 0; i < f->runs; i++) {
        if (ram_read(b, p->runs[i].first, p->runs[i].count, page, err) < 0) {
            return -1;
        }
        for (uint32_t k = 0; k < p->runs[i].count; k++, page += RAM_PAGE_SIZE) {
            if (delta_decode(&in, end, page, RAM_PAGE_SIZE) < 0) {
                return error_set(err, ERROR_CORRUPT, "a change of a page in pass %u makes no sense", f->pass);
            }
        }
    }
    if (in != end || !digest_is_right(p, f, p->pages)) {
        return wrong_digest(f, err);
    }
    return place_runs(p, f, p->pages, err);
}

int place_frame(struct placer *p, const struct frame *f, struct error *err) {
    int rc = f->kind == FRAME_ZERO    ? place_zeros(p, f, err)
             : f->kind == FRAME_DELTA ? place_changes(p, f, err)
                                      : place_pages(p, f, err);
    if (rc == 0 && f->kind != FRAME_DELTA && atomic_load(p->rejected) > 0) {
        mark_all(p, f, false);
    }
    return rc;
}
