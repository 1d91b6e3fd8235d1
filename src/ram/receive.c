/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/receive.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "codec/codec.h"
#include "ram/order.h"
#include "wire/frame.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xxhash.h>

struct receive_channel {
    struct ram_receive *receive;
    struct conn *conn;
    unsigned index;
    uint32_t pages_in_pass;
    pthread_t thread;
    uint8_t *encoded, *pages; /* pages_per_batch pages each */
    struct frame_run runs[FRAME_MAX_PAGES];
    uint8_t head[FRAME_HEADER_SIZE + FRAME_MAX_PAGES * FRAME_RUN_SIZE];
};

struct ram_receive {
    struct ram *ram;
    struct frame_bounds bounds;
    struct order order;
    int event_fd;
    _Atomic uint64_t pages;
    unsigned channels, started;
    struct receive_channel *channel;

    pthread_mutex_t lock; /* owns what follows */
    struct error failure;
};

/* Reads the payload and leaves the pages, as they were before the codec, in c->pages. */
static int read_pages(struct receive_channel *c, const struct frame *f, struct error *err) {
    size_t raw = (size_t)f->pages * RAM_PAGE_SIZE;
    const struct codec_ops *codec = codec_by_id(f->codec);
    if (codec == NULL && (f->codec != CODEC_NONE || f->payload != raw)) {
        return error_set(err, ERROR_PEER, "a batch with the unknown codec %u arrived", f->codec);
    }
    if (conn_read(c->conn, codec ? c->encoded : c->pages, f->payload, err) < 0) {
        return -1;
    }
    int64_t delay = fault_value_at("decoder-delay", c->index, 0);
    if (delay > 0) {
        clock_sleep(delay * CLOCK_MS);
    }
    if (codec != NULL && codec->decode(codec->decoder_new(), c->encoded, f->payload, c->pages, raw) < 0) {
        return error_set(err, ERROR_CORRUPT, "a batch of pass %u does not decode as %s: it was damaged on its way",
                         f->pass, codec->name);
    }
    XXH128_hash_t digest = XXH3_128bits(c->pages, raw);
    if (digest.low64 != f->digest[0] || digest.high64 != f->digest[1]) {
        return error_set(err, ERROR_CORRUPT,
                         "a batch of pass %u does not have its digest: it was damaged on its way or by a codec",
                         f->pass);
    }
    return 0;
}

static int place_pages(struct receive_channel *c, const struct frame *f, struct error *err) {
    if (read_pages(c, f, err) < 0) {
        return -1;
    }
    struct ram_block *block = &c->receive->ram->blocks[f->block];
    const uint8_t *from = c->pages;
    for (uint32_t i = 0; i < f->runs; i++) {
        if (ram_place(block, c->runs[i].first, c->runs[i].count, from, err) < 0) {
            return -1;
        }
        from += (size_t)c->runs[i].count * RAM_PAGE_SIZE;
    }
    c->pages_in_pass += f->pages;
    atomic_fetch_add_explicit(&c->receive->pages, f->pages, memory_order_relaxed);
    return 0;
}

static int place_zeros(struct receive_channel *c, const struct frame *f, struct error *err) {
    struct ram_block *block = &c->receive->ram->blocks[f->block];
    for (uint32_t i = 0; i < f->runs; i++) {
        if (ram_place_zero(block, c->runs[i].first, c->runs[i].count, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int end_pass(struct receive_channel *c, const struct frame *f, struct error *err) {
    if (f->pages != c->pages_in_pass) {
        return error_set(err, ERROR_PEER, "channel %u brought %u pages of pass %u and says it sent %u", c->index,
                         c->pages_in_pass, f->pass, f->pages);
    }
    c->pages_in_pass = 0;
    if (order_leave(&c->receive->order, c->index, f->pass, err) < 0) {
        return -1;
    }
    eventfd_write(c->receive->event_fd, 1);
    return 0;
}

/* One frame: 0, 1 when the peer has ended the channel between frames, -1. */
static int receive_frame(struct receive_channel *c, struct error *err) {
    struct ram_receive *r = c->receive;
    int rc = conn_read_or_end(c->conn, c->head, FRAME_HEADER_SIZE, err);
    if (rc != 0) {
        return rc;
    }
    struct frame f;
    if (frame_decode_header(c->head, &r->bounds, &f, err) < 0 ||
        conn_read(c->conn, c->head + FRAME_HEADER_SIZE, (size_t)f.runs * FRAME_RUN_SIZE, err) < 0 ||
        frame_decode_runs(c->head, &r->bounds, &f, c->runs, err) < 0) {
        return -1;
    }
    if (f.kind == FRAME_PASS_END) {
        return end_pass(c, &f, err);
    }
    if (order_enter(&r->order, c->index, f.pass, err) < 0) {
        return -1;
    }
    return f.kind == FRAME_PAGES ? place_pages(c, &f, err) : place_zeros(c, &f, err);
}

static void *run_channel(void *opaque) {
    struct receive_channel *c = opaque;
    struct ram_receive *r = c->receive;
    char name[16];
    snprintf(name, sizeof(name), "receive %u", c->index);
    pthread_setname_np(pthread_self(), name);
    struct error err = { 0 };
    int rc;
    do {
        rc = receive_frame(c, &err);
    } while (rc == 0);
    if (rc < 0) {
        LOCK_GUARD(&r->lock);
        if (!error_is_set(&r->failure)) {
            r->failure = err;
        }
        order_break(&r->order);
    }
    eventfd_write(r->event_fd, 1);
    return NULL;
}

static int channel_init(struct ram_receive *r, unsigned i, struct conn *conn, unsigned pages_per_batch,
                        struct error *err) {
    struct receive_channel *c = &r->channel[i];
    c->receive = r;
    c->conn = conn;
    c->index = i;
    c->pages = aligned_alloc(RAM_PAGE_SIZE, (size_t)pages_per_batch * RAM_PAGE_SIZE);
    c->encoded = aligned_alloc(RAM_PAGE_SIZE, (size_t)pages_per_batch * RAM_PAGE_SIZE);
    if (c->pages == NULL || c->encoded == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory for channel %u", i);
    }
    if (pthread_create(&c->thread, NULL, run_channel, c) != 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot start the thread of channel %u", i);
    }
    r->started++;
    return 0;
}

struct ram_receive *ram_receive_open(struct ram *ram, struct conn *conns, unsigned channels, unsigned pages_per_batch,
                                     struct error *err) {
    struct ram_receive *r = calloc(1, sizeof(*r));
    if (r == NULL || (r->channel = calloc(channels, sizeof(r->channel[0]))) == NULL ||
        order_init(&r->order, channels, err) < 0) {
        if (r != NULL) {
            free(r->channel);
        }
        free(r);
        error_set(err, ERROR_SYSTEM, "no memory for the channels");
        return NULL;
    }
    r->ram = ram;
    r->bounds = (struct frame_bounds){ ram->count, ram->block_pages, pages_per_batch, pages_per_batch * RAM_PAGE_SIZE };
    r->channels = channels;
    r->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&r->lock, NULL);
    for (unsigned i = 0; i < channels; i++) {
        if (channel_init(r, i, &conns[i], pages_per_batch, err) < 0) {
            for (unsigned k = 0; k < channels; k++) {
                conn_break(&conns[k]);
            }
            ram_receive_close(r);
            return NULL;
        }
    }
    return r;
}

int ram_receive_poll(struct ram_receive *r, uint32_t pass, struct error *err) {
    eventfd_t drained;
    eventfd_read(r->event_fd, &drained);
    LOCK_GUARD(&r->lock);
    if (error_is_set(&r->failure)) {
        return error_set(err, r->failure.class, "%s", r->failure.desc);
    }
    return order_placed(&r->order) >= pass;
}

int ram_receive_poll_fd(const struct ram_receive *r) {
    return r->event_fd;
}

uint64_t ram_receive_pages(const struct ram_receive *r) {
    return atomic_load_explicit(&r->pages, memory_order_relaxed);
}

void ram_receive_close(struct ram_receive *r) {
    if (r == NULL) {
        return;
    }
    order_break(&r->order);
    for (unsigned i = 0; i < r->channels; i++) {
        if (i < r->started) {
            pthread_join(r->channel[i].thread, NULL);
        }
        free(r->channel[i].pages);
        free(r->channel[i].encoded);
    }
    order_destroy(&r->order);
    close(r->event_fd);
    pthread_mutex_destroy(&r->lock);
    free(r->channel);
    free(r);
}
