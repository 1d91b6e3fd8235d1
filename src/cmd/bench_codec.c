/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/bench_codec.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/step.h"

#include <stdbool.h>
#include <string.h>

#define TIME_BOX (2 * CLOCK_S)
#define TIME_AT_LEAST (50 * CLOCK_MS) /* a small sample is gone over again: one batch alone is no measurement */

struct bench_row *bench_rows_new(size_t *count) {
    static const struct {
        const struct codec_ops *codec;
        int level;
    } all[] = {
        { &codec_lz4, 8 },   { &codec_lz4, 1 },     { &codec_zstd, -5 },   { &codec_zstd, -1 },   { &codec_zstd, 1 },
        { &codec_zstd, 3 },  { &codec_zstd, 6 },    { &codec_zstd, 9 },    { &codec_zstd, 12 },   { &codec_zstd, 15 },
        { &codec_zstd, 19 }, { &codec_deflate, 0 }, { &codec_deflate, 1 }, { &codec_deflate, 2 }, { &codec_deflate, 3 },
    };
    *count = sizeof(all) / sizeof(all[0]);
    struct bench_row *rows = calloc(*count, sizeof(*rows));
    for (size_t i = 0; rows != NULL && i < *count; i++) {
        rows[i].codec = all[i].codec;
        rows[i].level = all[i].level;
    }
    return rows;
}

/* The states and buffers of one row. */
struct work {
    const struct codec_ops *codec;
    int level;
    void *encoder, *decoder;
    uint8_t *encoded, *back;
    int64_t encode_ns, decode_ns;
};

static int work_open(struct work *w, const struct bench_row *row, size_t batch, struct error *err) {
    *w = (struct work){ .codec = row->codec, .level = row->level };
    w->encoder = row->codec->encoder_new();
    w->decoder = row->codec->decoder_new();
    w->encoded = malloc(batch);
    w->back = malloc(batch);
    if (w->encoder == NULL || w->decoder == NULL || w->encoded == NULL || w->back == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory for %s", row->codec->name);
    }
    return 0;
}

static void work_close(struct work *w) {
    w->codec->encoder_free(w->encoder);
    w->codec->decoder_free(w->decoder);
    free(w->encoded);
    free(w->back);
}

/* There and back, with CPU time, so that what else this host does costs the codec nothing. */
static int try_batch(struct work *w, struct bench_row *row, const uint8_t *in, size_t size, struct error *err) {
    int64_t start = clock_cpu();
    size_t n = w->codec->encode(w->encoder, in, size, w->encoded, size - 1, w->level);
    int64_t encoded = clock_cpu();
    w->encode_ns += encoded - start;
    row->in += size;
    row->out += n > 0 ? n : size;
    if (n == 0) {
        return 0;
    }
    start = clock_cpu();
    int rc = w->codec->decode(w->decoder, w->encoded, n, w->back, size);
    w->decode_ns += clock_cpu() - start;
    row->decoded += size;
    if (rc < 0 || memcmp(w->back, in, size) != 0) {
        return error_set(err, ERROR_CORRUPT, "%s at level %d does not give back what it was given: do not use it here",
                         w->codec->name, w->level);
    }
    return 0;
}

static int go_over(struct work *w, struct bench_row *row, const struct bench_sample *sample, unsigned batch_pages,
                   struct error *err) {
    uint64_t pages = bench_sample_used(sample), batches = (pages + batch_pages - 1) / batch_pages;
    uint64_t step = golden_step(batches), at = 0;
    int64_t start = clock_now(), spent = 0;
    for (uint64_t i = 0; (i < batches && spent < TIME_BOX) || spent < TIME_AT_LEAST; i++) {
        uint64_t first = at * batch_pages, n = pages - first < batch_pages ? pages - first : batch_pages;
        if (try_batch(w, row, sample->data + first * BENCH_PAGE, n * BENCH_PAGE, err) < 0) {
            return -1;
        }
        at += step;
        at -= at >= batches ? batches : 0;
        spent = clock_now() - start;
    }
    return 0;
}

static double rate(uint64_t bytes, int64_t ns) {
    return bytes > 0 ? (double)bytes * 1e9 / (double)(ns > 0 ? ns : 1) : 0;
}

int bench_row_measure(struct bench_row *row, const struct bench_sample *sample, unsigned batch_pages,
                      struct error *err) {
    struct work w;
    size_t batch = (size_t)batch_pages * BENCH_PAGE;
    int rc = work_open(&w, row, batch, err);
    if (rc == 0) {
        /* the first batch pays for the memory of states and buffers, which a migration pays for once */
        struct bench_row unused = { 0 };
        uint64_t pages = bench_sample_used(sample) < batch_pages ? bench_sample_used(sample) : batch_pages;
        rc = try_batch(&w, &unused, sample->data, pages * BENCH_PAGE, err);
        w.encode_ns = w.decode_ns = 0;
    }
    if (rc == 0) {
        rc = go_over(&w, row, sample, batch_pages, err);
    }
    if (rc == 0) {
        row->encode = rate(row->in, w.encode_ns);
        row->decode = rate(row->decoded, w.decode_ns);
    }
    work_close(&w);
    return rc;
}

static double share(const struct bench_row *row) {
    return (double)row->out / (double)row->in;
}

/* The other host decompresses while this one compresses the next batch, and must keep up with the link's share of it.
 */
static double capped(const struct bench_row *row, double bytes_a_second) {
    return 8 * (bytes_a_second < row->decode ? bytes_a_second : row->decode);
}

void bench_rows_compare(struct bench_row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        rows[i].best_below = 0;
        rows[i].beats_raw_below = share(&rows[i]) < 1 ? capped(&rows[i], rows[i].encode * (1 - share(&rows[i]))) : 0;
    }
    /* From fast links to slow ones: from the line that is lowest now to the one that crosses it first. */
    double height = 0, slope = 1;
    for (;;) {
        struct bench_row *next = NULL;
        double crossing = 0;
        for (size_t i = 0; i < count; i++) {
            if (share(&rows[i]) >= slope) {
                continue;
            }
            double x = (1 / rows[i].encode - height) / (slope - share(&rows[i]));
            if (next == NULL || x < crossing || (x == crossing && share(&rows[i]) < share(next))) {
                next = &rows[i];
                crossing = x;
            }
        }
        if (next == NULL) {
            return;
        }
        next->best_below = capped(next, 1 / crossing);
        height = 1 / next->encode;
        slope = share(next);
    }
}
