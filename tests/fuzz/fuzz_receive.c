/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiving half of a channel (ram/receive.h): what is in place in the end is what a plain reading of the stream
 * says, whatever the stream is.
 *
 * The input is a list of items. An item is bytes for the stream as they are, or a recipe for a frame whose check and
 * digest are right, since no fuzzer would guess those.
 */
#include "codec/codec.h"
#include "codec/delta.h"
#include "fuzz.h"
#include "ram/backing_internal.h"
#include "ram/receive.h"
#include "wire/frame.h"

#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCKS 2
#define BATCH 4u
#define STREAM_MAX ((size_t)96 << 10) /* it fits into the socket's buffer, with the tail */
/* At the end: no frame begins with zeros, so the receiver fails there at the latest, however much of them a frame that
 * came before takes for its payload. */
#define TAIL (FRAME_HEADER_SIZE + FRAME_MAX_PAGES * FRAME_RUN_SIZE + BATCH * FRAME_PAGE_SIZE + FRAME_HEADER_SIZE)
#define RUNS_MAX 8

#define PAGES 12
static const uint64_t block_pages[BLOCKS] = { PAGES, 5 };

struct stream {
    uint8_t data[STREAM_MAX + TAIL];
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
    ITEM_DEVICE = 64, /* an accelerator made it: what is wrong with it is no failure */
};

static const struct digest_key key = { { 1, 2, 3 } };

/* Of as many whole pages as there are bytes for. */
static void set_digest(struct frame *f, const uint8_t *bytes, size_t size) {
    struct page_digest digests[BATCH];
    size_t n = size / FRAME_PAGE_SIZE < BATCH ? size / FRAME_PAGE_SIZE : BATCH;
    for (size_t i = 0; i < n; i++) {
        digests[i] = digest_page(&key, bytes + i * FRAME_PAGE_SIZE);
    }
    struct page_digest d = digest_batch(&key, digests, n);
    f->digest[0] = d.low;
    f->digest[1] = d.high;
}

/* Ours, beside the receiver's. */
static void *decoder_of(const struct codec_ops *codec) {
    static void *decoders[CODEC_COUNT];
    if (decoders[codec->id] == NULL) {
        decoders[codec->id] = codec->decoder_new();
        MUST(decoders[codec->id] != NULL);
    }
    return decoders[codec->id];
}

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
        if (codec != NULL && codec->decode(decoder_of(codec), payload, n, raw, size) == 0) {
            pages = raw;
        }
        size = pages == payload ? n : size;
        set_digest(f, pages, size);
        return n;
    }
    memset(raw, (int)take(in, 1), size);
    set_digest(f, raw, size);
    size_t n = 0;
    if ((item & ITEM_LZ4) != 0 && size > 0) {
        static void *encoder;
        encoder = encoder != NULL ? encoder : codec_lz4.encoder_new();
        MUST(encoder != NULL);
        n = codec_lz4.encode(encoder, raw, size, payload, size - 1, 1);
    }
    f->codec = n > 0 ? CODEC_LZ4 : CODEC_NONE;
    if (n == 0) {
        memcpy(payload, raw, size);
        n = size;
    }
    return n;
}

/* What the destination must hold. */
struct model {
    uint8_t pages[BLOCKS][PAGES * FRAME_PAGE_SIZE];
    bool rejected[BLOCKS][PAGES];
    uint32_t pass; /* placed in full */
    uint32_t pages_in_pass;
};

static bool runs_fit(const struct frame *f, const struct frame_run *runs) {
    uint64_t pages = 0;
    for (uint32_t i = 0; i < f->runs; i++) {
        if (runs[i].first + runs[i].count > block_pages[f->index]) {
            return false;
        }
        pages += runs[i].count;
    }
    return pages == f->pages && pages <= BATCH;
}

/* What the changes in `payload` make of the frame's pages. */
static int patch(const struct model *m, const struct frame *f, const struct frame_run *runs, const uint8_t *payload,
                 size_t size, uint8_t *raw) {
    const uint8_t *at = payload, *end = payload + size;
    for (uint32_t i = 0; i < f->runs; i++) {
        for (uint32_t k = 0; k < runs[i].count; k++, raw += FRAME_PAGE_SIZE) {
            memcpy(raw, m->pages[f->index] + (runs[i].first + k) * FRAME_PAGE_SIZE, FRAME_PAGE_SIZE);
            if (delta_decode(&at, end, raw, FRAME_PAGE_SIZE) < 0) {
                return -1;
            }
        }
    }
    return at == end ? 0 : -1;
}

static bool is_rejected(const struct model *m, const struct frame *f, const struct frame_run *runs) {
    for (uint32_t i = 0; i < f->runs; i++) {
        for (uint32_t k = 0; k < runs[i].count; k++) {
            if (m->rejected[f->index][runs[i].first + k]) {
                return true;
            }
        }
    }
    return false;
}

static void mark(struct model *m, const struct frame *f, const struct frame_run *runs, bool rejected) {
    for (uint32_t i = 0; i < f->runs; i++) {
        for (uint32_t k = 0; k < runs[i].count; k++) {
            m->rejected[f->index][runs[i].first + k] = rejected;
        }
    }
}

static bool has_its_digest(const struct frame *f, const uint8_t *raw) {
    struct frame right = *f;
    set_digest(&right, raw, (size_t)f->pages * FRAME_PAGE_SIZE);
    return right.digest[0] == f->digest[0] && right.digest[1] == f->digest[1];
}

static void put(struct model *m, const struct frame *f, const struct frame_run *runs, const uint8_t *raw) {
    for (uint32_t i = 0; i < f->runs; i++) {
        size_t n = (size_t)runs[i].count * FRAME_PAGE_SIZE;
        memcpy(m->pages[f->index] + runs[i].first * FRAME_PAGE_SIZE, raw, n);
        raw += n;
    }
}

static int model_changes(struct model *m, const struct frame *f, const struct frame_run *runs, const uint8_t *payload) {
    static uint8_t raw[BATCH * FRAME_PAGE_SIZE];
    if (f->codec != CODEC_NONE) {
        return -1;
    }
    m->pages_in_pass += f->pages;
    if (is_rejected(m, f, runs)) {
        mark(m, f, runs, true);
        return 0;
    }
    if (patch(m, f, runs, payload, f->payload, raw) < 0 || !has_its_digest(f, raw)) {
        return -1;
    }
    put(m, f, runs, raw);
    return 0;
}

static int model_pages(struct model *m, const struct frame *f, const struct frame_run *runs, const uint8_t *payload) {
    static uint8_t raw[BATCH * FRAME_PAGE_SIZE];
    size_t size = (size_t)f->pages * FRAME_PAGE_SIZE;
    const struct codec_ops *codec = codec_by_id(f->codec);
    bool right = true;
    if (codec != NULL) {
        right = codec->decode(decoder_of(codec), payload, f->payload, raw, size) == 0;
    } else if (f->codec == CODEC_NONE && f->payload == size) {
        memcpy(raw, payload, size);
    } else {
        return -1;
    }
    right = right && has_its_digest(f, raw);
    if (!right && f->device == 0) {
        return -1;
    }
    m->pages_in_pass += f->pages;
    mark(m, f, runs, !right);
    if (right) {
        put(m, f, runs, raw);
    }
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
    if (f.kind == FRAME_PAGES || f.kind == FRAME_DELTA) {
        int rc = (f.kind == FRAME_PAGES ? model_pages : model_changes)(m, &f, runs, data + head);
        return rc < 0 ? 0 : head + f.payload;
    }
    if (f.codec != CODEC_NONE) {
        return 0;
    }
    mark(m, &f, runs, false);
    for (uint32_t i = 0; i < f.runs; i++) {
        memset(m->pages[f.index] + runs[i].first * FRAME_PAGE_SIZE, 0, (size_t)runs[i].count * FRAME_PAGE_SIZE);
    }
    return head;
}

static void run_model(struct model *m, const struct stream *s) {
    const struct frame_bounds bounds = { .space[FRAME_RAM] = { BLOCKS, block_pages },
                                         .max_pages = BATCH,
                                         .max_payload = BATCH * FRAME_PAGE_SIZE };
    memset(m, 0, sizeof(*m));
    size_t at = 0, n;
    while ((n = model_frame(m, &bounds, s->data + at, s->size - at)) > 0) {
        at += n;
    }
}

/* Changes as the input has them, and the digest of what they make of the pages, when they make sense. */
static size_t make_changes(const struct stream *s, struct input *in, struct frame *f, const struct frame_run *runs,
                           uint8_t *payload) {
    static struct model m;
    static uint8_t raw[BATCH * FRAME_PAGE_SIZE];
    size_t n = take(in, 2) % (BATCH * FRAME_PAGE_SIZE);
    n = n < in->size ? n : in->size;
    memcpy(payload, in->data, n);
    in->data += n;
    in->size -= n;
    run_model(&m, s);
    if (f->index < BLOCKS && runs_fit(f, runs) && patch(&m, f, runs, payload, n, raw) == 0) {
        set_digest(f, raw, (size_t)f->pages * FRAME_PAGE_SIZE);
    }
    return n;
}

static void append_frame(struct stream *s, struct input *in, unsigned item) {
    static uint8_t payload[BATCH * FRAME_PAGE_SIZE + 2];
    uint8_t head[FRAME_HEADER_SIZE + RUNS_MAX * FRAME_RUN_SIZE];
    struct frame_run runs[RUNS_MAX];
    struct frame f = { .kind = item & ITEM_KIND, .thing = FRAME_RAM };
    if (f.kind == FRAME_PASS_END) {
        f.thing = FRAME_OF_ALL;
    }
    uint16_t index = (uint16_t)take(in, 1); /* from 0xf0 on: of a thing that is none of ours */
    f.thing ^= index >= 0xf0 ? index & 0xf : 0;
    f.index = index >= 0xf0 ? 0 : index;
    f.pass = take(in, 1);
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
        f.device = (item & ITEM_DEVICE) != 0;
    }
    if (f.kind == FRAME_DELTA) {
        f.payload = (uint32_t)make_changes(s, in, &f, runs, payload);
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
    memset(s->data + s->size, 0, TAIL);
    s->size += TAIL;
}

static void run_receiver(struct ram *ram, const struct stream *s) {
    int ends[2];
    struct error err = { 0 };
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    MUST(send(ends[0], s->data, s->size, MSG_DONTWAIT) == (ssize_t)s->size);
    shutdown(ends[0], SHUT_WR);
    struct conn c;
    conn_init(&c, ends[1], "channel 0");
    /* With one thread that places at a time frames are placed in their order, as the model does. */
    const struct ram_receive_config config = { 1, 1, BATCH, &c, &key };
    struct ram_receive *r = ram_receive_open(ram, &config, &err);
    MUST(r != NULL);
    while (ram_receive_poll(r, UINT32_MAX, &err) == 0) {
        struct pollfd p = { .fd = ram_receive_poll_fd(r), .events = POLLIN };
        poll(&p, 1, -1);
    }
    ram_receive_close(r);
    conn_close(&c);
    close(ends[0]);
}

/* The same file for each input. */
static int empty_file(size_t block) {
    static int fds[BLOCKS];
    if (fds[block] == 0) {
        fds[block] = memfd_create("fuzz", MFD_CLOEXEC);
    }
    MUST(fds[block] > 0 && ftruncate(fds[block], 0) == 0);
    MUST(ftruncate(fds[block], (off_t)(block_pages[block] * FRAME_PAGE_SIZE)) == 0);
    return fds[block];
}

/* The receiver's threads come and go with each input: on one CPU that takes less than half the time, since no other has
 * to be told. */
static void stay_on_one_cpu(void) {
    static bool done;
    cpu_set_t allowed, one;
    if (done || sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        return;
    }
    done = true;
    CPU_ZERO(&one);
    const char *job = getenv("FUZZ_JOB");
    long skip = job != NULL ? strtol(job, NULL, 10) % CPU_COUNT(&allowed) : 0;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && skip-- == 0) {
            CPU_SET(cpu, &one);
            sched_setaffinity(0, sizeof(one), &one);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct stream s;
    static struct model m;
    static uint8_t placed[PAGES * FRAME_PAGE_SIZE];
    struct input in = { data, size };
    struct error err = { 0 };
    struct ram ram;
    stay_on_one_cpu();
    make_stream(&s, &in);
    run_model(&m, &s);
    MUST(ram_init(&ram, BLOCKS, &err) == 0);
    for (size_t i = 0; i < BLOCKS; i++) {
        struct backing_file file = { "block", block_pages[i] * FRAME_PAGE_SIZE, FRAME_PAGE_SIZE, empty_file(i), true };
        MUST(ram_open_destination(&ram, i, backing_open_file(&file, &err), &err) == 0);
    }
    run_receiver(&ram, &s);
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t bytes = (size_t)block_pages[i] * FRAME_PAGE_SIZE;
        MUST(lseek(backing_fd(ram.blocks[i].backing), 0, SEEK_END) == (off_t)bytes);
        MUST(ram_read(&ram.blocks[i], 0, block_pages[i], placed, &err) == 0);
        MUST(memcmp(placed, m.pages[i], bytes) == 0);
    }
    ram_free(&ram);
    return 0;
}
