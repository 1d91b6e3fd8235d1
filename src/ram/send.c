/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/send.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"
#include "ram/zero.h"
#include "wire/frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/*
 * A batch: up to pages_per_batch non-zero pages of one block, copied out of guest memory into `pages`, and beside it
 * the pages that have become zero. Both leave when the batch is full, when the block changes and at the end of a pass.
 */
struct batch {
    uint16_t block;
    uint32_t pages, runs, zero_pages, zero_runs;
    struct frame_run run[FRAME_MAX_PAGES], zero_run[FRAME_MAX_PAGES];
};

struct send_channel {
    struct ram_send *send;
    struct conn *conn;
    unsigned index;
    uint32_t pass;
    uint32_t sent_in_pass; /* pages in PAGES frames */
    pthread_t thread;
    void *encoders[CODEC_COUNT];
    struct choice choice;
    struct batch batch;
    uint8_t *pages;   /* pages_per_batch pages: the batch's copy of guest memory */
    uint8_t *encoded; /* the same size: an encoder that needs more is not used */
    uint8_t head[FRAME_HEADER_SIZE + FRAME_MAX_PAGES * FRAME_RUN_SIZE];
};

struct ram_send {
    struct pass pass;
    struct ram_send_config config;
    struct ram_counters counters;
    unsigned started; /* threads */
    struct send_channel *channel;
};

static void add_run(struct frame_run *runs, uint32_t *count, uint64_t page) {
    if (*count > 0 && runs[*count - 1].first + runs[*count - 1].count == page &&
        runs[*count - 1].count < FRAME_MAX_RUN_PAGES) {
        runs[*count - 1].count++;
    } else {
        runs[(*count)++] = (struct frame_run){ page, 1 };
    }
}

static int write_frame(struct send_channel *c, const struct frame *f, const struct frame_run *runs,
                       const uint8_t *payload, struct error *err) {
    size_t size = frame_encode(f, runs, c->head);
    struct iovec iov[2] = { { c->head, size }, { (void *)(uintptr_t)payload, f->payload } };
    return conn_writev(c->conn, iov, f->payload > 0 ? 2 : 1, err);
}

static int flush_zeros(struct send_channel *c, struct error *err) {
    struct batch *b = &c->batch;
    if (b->zero_runs == 0) {
        return 0;
    }
    struct frame f = {
        .kind = FRAME_ZERO, .block = b->block, .pass = c->pass, .runs = b->zero_runs, .pages = b->zero_pages
    };
    b->zero_pages = 0;
    b->zero_runs = 0;
    return write_frame(c, &f, b->zero_run, NULL, err);
}

/* Compresses the batch when that is thought to pay and does; fills codec and payload of the frame. */
static const uint8_t *encode(struct send_channel *c, struct frame *f, size_t raw, int64_t *encode_ns) {
    const struct compression_settings *s = c->send->config.compression;
    const struct codec_ops *codec = codec_by_id(choice_pick(&c->choice, s));
    *encode_ns = 0;
    if (codec != NULL) {
        int64_t begin = clock_now();
        size_t n = codec->encode(c->encoders[codec->id], c->pages, raw, c->encoded, raw - raw / 16,
                                 atomic_load_explicit(&s->lz4_acceleration, memory_order_relaxed));
        *encode_ns = clock_now() - begin;
        if (n > 0) {
            f->codec = (uint8_t)codec->id;
            f->payload = (uint32_t)n;
            return c->encoded;
        }
    }
    f->codec = CODEC_NONE;
    f->payload = (uint32_t)raw;
    return c->pages;
}

static int flush_pages(struct send_channel *c, struct error *err) {
    struct batch *b = &c->batch;
    if (b->pages == 0) {
        return 0;
    }
    size_t raw = (size_t)b->pages * RAM_PAGE_SIZE;
    XXH128_hash_t digest = XXH3_128bits(c->pages, raw);
    struct frame f = { .kind = FRAME_PAGES,
                       .block = b->block,
                       .pass = c->pass,
                       .runs = b->runs,
                       .pages = b->pages,
                       .digest = { digest.low64, digest.high64 } };
    int64_t encode_ns;
    const uint8_t *payload = encode(c, &f, raw, &encode_ns);
    if (fault_planned("corrupt-batch", NULL) && c->pass >= (uint32_t)fault_value("corrupt-batch", NULL, 1)) {
        c->pages[0] ^= 1;
        c->encoded[f.payload / 2] ^= 1;
    }
    int64_t begin = clock_now();
    if (write_frame(c, &f, b->run, payload, err) < 0) {
        return -1;
    }
    choice_learn(&c->choice, raw, f.payload, encode_ns, clock_now() - begin);
    struct ram_counters *n = &c->send->counters;
    count(&n->normal, b->pages);
    count(&n->codecs[f.codec].batches, 1);
    count(&n->codecs[f.codec].in, raw);
    count(&n->codecs[f.codec].out, f.payload);
    c->sent_in_pass += b->pages;
    b->pages = 0;
    b->runs = 0;
    return 0;
}

static int flush(struct send_channel *c, struct error *err) {
    return flush_pages(c, err) < 0 || flush_zeros(c, err) < 0 ? -1 : 0;
}

/* Sorts `n` pages that were just read to the end of the batch: the non-zero ones stay, moved together. */
static void sort_pages(struct send_channel *c, struct ram_block *block, uint64_t first, uint32_t n) {
    struct batch *b = &c->batch;
    uint8_t *from = c->pages + (size_t)b->pages * RAM_PAGE_SIZE, *to = from;
    uint64_t zeros = 0;
    for (uint64_t page = first; page < first + n; page++, from += RAM_PAGE_SIZE) {
        if (!is_zero(from, RAM_PAGE_SIZE)) {
            if (to != from) {
                memcpy(to, from, RAM_PAGE_SIZE);
            }
            to += RAM_PAGE_SIZE;
            bits_set(block->sent, page);
            add_run(b->run, &b->runs, page);
            b->pages++;
            continue;
        }
        zeros++;
        if (bits_test(block->sent, page)) { /* else the destination has zeros there from the start */
            bits_clear(block->sent, page);
            add_run(b->zero_run, &b->zero_runs, page);
            b->zero_pages++;
        }
    }
    count(&c->send->counters.duplicate, zeros);
    count(&c->send->counters.done, n);
}

/* Pages [first, end) are dirty; there is room for at least one. */
static int add_pages(struct send_channel *c, struct ram_block *block, uint64_t first, uint64_t end, struct error *err) {
    struct batch *b = &c->batch;
    uint32_t max = c->send->config.pages_per_batch;
    while (first < end) {
        uint32_t room = max - b->pages;
        uint32_t n = end - first < room ? (uint32_t)(end - first) : room;
        if (ram_read(block, first, n, c->pages + (size_t)b->pages * RAM_PAGE_SIZE, err) < 0) {
            return -1;
        }
        sort_pages(c, block, first, n);
        first += n;
        if (b->pages == max && flush_pages(c, err) < 0) {
            return -1;
        }
        if (b->zero_runs > FRAME_MAX_PAGES - max && flush_zeros(c, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int send_chunk(struct send_channel *c, const struct pass_chunk *chunk, struct error *err) {
    if (chunk->index != c->batch.block) {
        if (flush(c, err) < 0) {
            return -1;
        }
        c->batch.block = chunk->index;
    }
    uint64_t *dirty = chunk->block->dirty;
    uint64_t first = bits_next_set(dirty, chunk->first, chunk->end);
    while (first < chunk->end) {
        uint64_t end = bits_next_clear(dirty, first, chunk->end);
        if (add_pages(c, chunk->block, first, end, err) < 0) {
            return -1;
        }
        first = bits_next_set(dirty, end, chunk->end);
    }
    bits_clear_range(dirty, chunk->first, chunk->end);
    return 0;
}

static int send_pass(struct send_channel *c, struct error *err) {
    struct pass_chunk chunk;
    c->sent_in_pass = 0;
    while (pass_next_chunk(&c->send->pass, &chunk)) {
        if (send_chunk(c, &chunk, err) < 0) {
            return -1;
        }
    }
    if (flush(c, err) < 0) {
        return -1;
    }
    struct frame end = { .kind = FRAME_PASS_END, .pass = c->pass, .pages = c->sent_in_pass };
    return write_frame(c, &end, NULL, NULL, err);
}

static void *run_channel(void *opaque) {
    struct send_channel *c = opaque;
    struct pass *pass = &c->send->pass;
    char name[16];
    snprintf(name, sizeof(name), "send %u", c->index);
    pthread_setname_np(pthread_self(), name);
    while (pass_wait(pass, c->pass, &c->pass)) {
        struct error err = { 0 };
        if (send_pass(c, &err) < 0) {
            pass_fail(pass, &err);
            return NULL;
        }
        pass_leave(pass);
    }
    return NULL;
}

static int channel_init(struct ram_send *s, unsigned i, struct error *err) {
    struct send_channel *c = &s->channel[i];
    size_t size = (size_t)s->config.pages_per_batch * RAM_PAGE_SIZE;
    c->send = s;
    c->conn = &s->config.conns[i];
    c->index = i;
    c->pages = aligned_alloc(RAM_PAGE_SIZE, size);
    c->encoded = aligned_alloc(RAM_PAGE_SIZE, size);
    bool complete = c->pages != NULL && c->encoded != NULL;
    for (unsigned id = 0; id < CODEC_COUNT; id++) {
        const struct codec_ops *codec = codec_by_id(id);
        if (codec != NULL) {
            c->encoders[id] = codec->encoder_new();
            complete = complete && c->encoders[id] != NULL;
        }
    }
    if (!complete) {
        return error_set(err, ERROR_SYSTEM, "no memory for channel %u", i);
    }
    if (pthread_create(&c->thread, NULL, run_channel, c) != 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot start the thread of channel %u", i);
    }
    s->started++;
    return 0;
}

struct ram_send *ram_send_open(struct ram *ram, const struct ram_send_config *config, struct error *err) {
    struct ram_send *s = calloc(1, sizeof(*s));
    if (s == NULL || (s->channel = calloc(config->channels, sizeof(s->channel[0]))) == NULL) {
        free(s);
        error_errno(err, ERROR_SYSTEM, "no memory for the channels");
        return NULL;
    }
    s->config = *config;
    if (pass_init(&s->pass, ram, config->channels, err) < 0) {
        free(s->channel);
        free(s);
        return NULL;
    }
    for (unsigned i = 0; i < config->channels; i++) {
        if (channel_init(s, i, err) < 0) {
            ram_send_close(s);
            return NULL;
        }
    }
    return s;
}

struct pass *ram_send_pass(struct ram_send *s) {
    return &s->pass;
}

struct ram_counters *ram_send_counters(struct ram_send *s) {
    return &s->counters;
}

void ram_send_close(struct ram_send *s) {
    if (s == NULL) {
        return;
    }
    pass_end_threads(&s->pass);
    for (unsigned i = 0; i < s->config.channels; i++) {
        struct send_channel *c = &s->channel[i];
        if (i < s->started) {
            pthread_join(c->thread, NULL);
        }
        for (unsigned id = 0; id < CODEC_COUNT; id++) {
            if (c->encoders[id] != NULL) {
                codec_by_id(id)->encoder_free(c->encoders[id]);
            }
        }
        free(c->pages);
        free(c->encoded);
    }
    pass_destroy(&s->pass);
    free(s->channel);
    free(s);
}
