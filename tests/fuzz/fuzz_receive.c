/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiving half of a channel (ram/receive.h): what is in place in the end is what a plain reading of the stream
 * says, whatever the stream is.
 *
 * The input is a list of items. An item is bytes for the stream as they are, or a recipe for a frame whose check and
 * digest are right, since no fuzzer would guess those.
 */
#include "codec/codec.h"
#include "fuzz.h"
#include "ram/receive.h"
#include "wire/frame.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#define BLOCKS 2
#define BATCH 4u
#define STREAM_MAX ((size_t)96 << 10) /* it fits into the socket's buffer */
#define RUNS_MAX 8

static const uint64_t block_pages[BLOCKS] = { 24, 5 };

struct stream {
    uint8_t data[STREAM_MAX + FRAME_HEADER_SIZE];
    size_t size;
};

static void append(struct stream *s, const void *data, size_t size) {
    if (s->size + size <= STREAM_MAX) {
        memcpy(s->data + s->size, data, size);
        s->size += size;
    }
}

enum {
    ITEM_KIND = 7, /* 0: bytes as they are */
    ITEM_FILL = 8, /* the payload is whole pages of one byte, and right */
    ITEM_LZ4 = 16, /* … and compressed */
    ITEM_MISCOUNT = 32,
};

/* Fills payload and digest of the recipe; returns the payload's size. */
static size_t make_payload(struct input *in, unsigned item, struct frame *f, uint8_t *payload) {
    static uint8_t raw[BATCH * FRAME_PAGE_SIZE];
    size_t size = f->pages <= BATCH ? (size_t)f->pages * FRAME_PAGE_SIZE : 0;
    if ((item & ITEM_FILL) == 0) {
        size_t n = take(in, 2) % (BATCH * FRAME_PAGE_SIZE + 2);
        n = n < in->size ? n : in->size;
        memcpy(payload, in->data, n);
        in->data += n;
        in->size -= n;
        f->codec = (uint8_t)take(in, 1);
        /* the digest of what it decodes to, when it does */
        const struct codec_ops *codec = codec_by_id(f->codec);
        const uint8_t *pages = payload;
        size = codec == NULL ? n : size;
        if (codec != NULL && codec->decode(codec->decoder_new(), payload, n, raw, size) == 0) {
            pages = raw;
        }
        XXH128_hash_t digest = XXH3_128bits(pages, codec != NULL && pages == payload ? 0 : size);
        f->digest[0] = digest.low64;
        f->digest[1] = digest.high64;
        return n;
    }
    memset(raw, (int)take(in, 1), size);
    XXH128_hash_t digest = XXH3_128bits(raw, size);
    f->digest[0] = digest.low64;
    f->digest[1] = digest.high64;
    size_t n = 0;
    if ((item & ITEM_LZ4) != 0 && size > 0) {
        void *encoder = codec_lz4.encoder_new();
        MUST(encoder != NULL);
        n = codec_lz4.encode(encoder, raw, size, payload, size - 1, 1);
        codec_lz4.encoder_free(encoder);
    }
    f->codec = n > 0 ? CODEC_LZ4 : CODEC_NONE;
    if (n == 0) {
        memcpy(payload, raw, size);
        n = size;
    }
    return n;
}

static void append_frame(struct stream *s, struct input *in, unsigned item) {
    static uint8_t payload[BATCH * FRAME_PAGE_SIZE + 2];
    uint8_t head[FRAME_HEADER_SIZE + RUNS_MAX * FRAME_RUN_SIZE];
    struct frame_run runs[RUNS_MAX];
    struct frame f = { .kind = item & ITEM_KIND, .block = (uint16_t)take(in, 1), .pass = take(in, 1) };
    f.runs = take(in, 1) % (RUNS_MAX + 1);
    for (uint32_t i = 0; i < f.runs; i++) {
        runs[i] = (struct frame_run){ take(in, 1), take(in, 1) };
        f.pages += runs[i].count;
    }
    if (f.kind == FRAME_PASS_END || (item & ITEM_MISCOUNT) != 0) {
        f.pages = take(in, 1);
    }
    if (f.kind == FRAME_PAGES) {
        f.payload = (uint32_t)make_payload(in, item, &f, payload);
    }
    append(s, head, frame_encode(&f, runs, head));
    append(s, payload, f.payload);
}

static void make_stream(struct stream *s, struct input *in) {
    s->size = 0;
    while (in->size > 0) {
        unsigned item = take(in, 1);
        if ((item & ITEM_KIND) != 0) {
            append_frame(s, in, item);
            continue;
        }
        size_t n = take(in, 1);
        n = n < in->size ? n : in->size;
        append(s, in->data, n);
        in->data += n;
        in->size -= n;
    }
    /* the end: no frame begins like this, so the receiver fails here at the latest */
    memset(s->data + s->size, 0, FRAME_HEADER_SIZE);
    s->size += FRAME_HEADER_SIZE;
}

/* What the destination must hold. */
struct model {
    uint8_t pages[BLOCKS][24 * FRAME_PAGE_SIZE];
    uint32_t pass; /* placed in full */
    uint32_t pages_in_pass;
};

static int model_pages(struct model *m, const struct frame *f, const struct frame_run *runs, const uint8_t *payload) {
    static uint8_t raw[BATCH * FRAME_PAGE_SIZE];
    size_t size = (size_t)f->pages * FRAME_PAGE_SIZE;
    if (f->codec == CODEC_LZ4) {
        if (codec_lz4.decode(codec_lz4.decoder_new(), payload, f->payload, raw, size) < 0) {
            return -1;
        }
    } else if (f->codec == CODEC_NONE && f->payload == size) {
        memcpy(raw, payload, size);
    } else {
        return -1;
    }
    XXH128_hash_t digest = XXH3_128bits(raw, size);
    if (digest.low64 != f->digest[0] || digest.high64 != f->digest[1]) {
        return -1;
    }
    const uint8_t *from = raw;
    for (uint32_t i = 0; i < f->runs; i++) {
        size_t n = (size_t)runs[i].count * FRAME_PAGE_SIZE;
        memcpy(m->pages[f->block] + runs[i].first * FRAME_PAGE_SIZE, from, n);
        from += n;
    }
    m->pages_in_pass += f->pages;
    return 0;
}

/* One frame at `data`: its size, or 0 when it is refused. */
static size_t model_frame(struct model *m, const struct frame_bounds *bounds, const uint8_t *data, size_t size) {
    static struct frame_run runs[FRAME_MAX_PAGES];
    struct error err = { 0 };
    struct frame f;
    if (size < FRAME_HEADER_SIZE || frame_decode_header(data, bounds, &f, &err) < 0) {
        return 0;
    }
    size_t head = FRAME_HEADER_SIZE + (size_t)f.runs * FRAME_RUN_SIZE;
    if (size < head || frame_decode_runs(data, bounds, &f, runs, &err) < 0 || f.pass != m->pass + 1 ||
        size - head < f.payload) {
        return 0;
    }
    if (f.kind == FRAME_PASS_END) {
        if (f.pages != m->pages_in_pass) {
            return 0;
        }
        m->pass++;
        m->pages_in_pass = 0;
        return head;
    }
    if (f.kind == FRAME_PAGES) {
        return model_pages(m, &f, runs, data + head) < 0 ? 0 : head + f.payload;
    }
    for (uint32_t i = 0; i < f.runs; i++) {
        memset(m->pages[f.block] + runs[i].first * FRAME_PAGE_SIZE, 0, (size_t)runs[i].count * FRAME_PAGE_SIZE);
    }
    return head;
}

static void run_model(struct model *m, const struct stream *s) {
    const struct frame_bounds bounds = { BLOCKS, block_pages, BATCH, BATCH * FRAME_PAGE_SIZE };
    memset(m, 0, sizeof(*m));
    size_t at = 0, n;
    while ((n = model_frame(m, &bounds, s->data + at, s->size - at)) > 0) {
        at += n;
    }
}

static void run_receiver(struct ram *ram, const struct stream *s) {
    int ends[2];
    struct error err = { 0 };
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    MUST(send(ends[0], s->data, s->size, MSG_DONTWAIT) == (ssize_t)s->size);
    shutdown(ends[0], SHUT_WR);
    struct conn c;
    conn_init(&c, ends[1], "channel 0");
    struct ram_receive *r = ram_receive_open(ram, &c, 1, BATCH, &err);
    MUST(r != NULL);
    while (ram_receive_poll(r, UINT32_MAX, &err) == 0) {
        struct pollfd p = { .fd = ram_receive_poll_fd(r), .events = POLLIN };
        poll(&p, 1, -1);
    }
    ram_receive_close(r);
    conn_close(&c);
    close(ends[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct stream s;
    static struct model m;
    static uint8_t placed[24 * FRAME_PAGE_SIZE];
    struct input in = { data, size };
    struct error err = { 0 };
    struct ram ram;
    make_stream(&s, &in);
    run_model(&m, &s);
    MUST(ram_init(&ram, BLOCKS, &err) == 0);
    for (size_t i = 0; i < BLOCKS; i++) {
        int fd = memfd_create("fuzz", MFD_CLOEXEC);
        MUST(fd >= 0 && ftruncate(fd, (off_t)(block_pages[i] * FRAME_PAGE_SIZE)) == 0);
        MUST(ram_open_destination(&ram, i, "block", block_pages[i] * FRAME_PAGE_SIZE, FRAME_PAGE_SIZE, fd, &err) == 0);
    }
    run_receiver(&ram, &s);
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t bytes = (size_t)block_pages[i] * FRAME_PAGE_SIZE;
        MUST(lseek(ram.blocks[i].fd, 0, SEEK_END) == (off_t)bytes);
        MUST(ram_read(&ram.blocks[i], 0, block_pages[i], placed, &err) == 0);
        MUST(memcmp(placed, m.pages[i], bytes) == 0);
        close(ram.blocks[i].fd);
    }
    ram_free(&ram);
    return 0;
}
