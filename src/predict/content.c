/* SPDX-License-Identifier: Apache-2.0 */
#include "predict/content.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/step.h"
#include "codec/codec.h"
#include "ram/block.h"
#include "ram/kind.h"
#include "ram/sample.h"

#include <stdlib.h>

#define TIME_BOX (60 * CLOCK_MS) /* for each codec and level */
#define PAGE_HEAD 8.0            /* bytes of a frame's header and runs for each page */

static enum codec_id fixed_codec(int64_t compression) {
    switch (compression) {
    case PARAM_COMPRESSION_LZ4:
        return CODEC_LZ4;
    case PARAM_COMPRESSION_ZSTD:
        return CODEC_ZSTD;
    case PARAM_COMPRESSION_DEFLATE:
    case PARAM_COMPRESSION_QAT: /* what stands in for a device that has no time */
        return CODEC_DEFLATE;
    default:
        return CODEC_NONE;
    }
}

static int fixed_level(const struct params *params, enum codec_id codec) {
    enum param p = codec == CODEC_LZ4    ? PARAM_LZ4_ACCELERATION
                   : codec == CODEC_ZSTD ? PARAM_ZSTD_LEVEL
                                         : PARAM_DEFLATE_LEVEL;
    return (int)params->value[p];
}

static void list_rows(struct content *c, const struct params *params) {
    int64_t compression = params->value[PARAM_COMPRESSION];
    *c = (struct content){ .count = 1 };
    if (compression == PARAM_COMPRESSION_AUTO) {
        c->count = CHOICE_RUNGS;
        for (int i = 0; i < CHOICE_RUNGS; i++) {
            c->rows[i].use = *choice_rung(i);
        }
        return;
    }
    enum codec_id codec = fixed_codec(compression);
    c->rows[0].use = (struct rung){ codec, codec == CODEC_NONE ? 0 : fixed_level(params, codec) };
}

struct trial {
    const uint8_t *bytes;
    size_t pages, batch; /* pages */
    bool bypass;
    uint8_t *out;
    int64_t cpu, wall; /* ns, of all rows */
};

static int try_row(struct content_row *row, struct trial *t, struct error *err) {
    row->ratio = 1;
    row->encode_ns = 0;
    if (row->use.codec == CODEC_NONE) {
        return 0;
    }
    const struct codec_ops *codec = codec_by_id(row->use.codec);
    void *encoder = codec->encoder_new();
    if (encoder == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory to compress pages");
    }
    uint64_t in = 0, sent = 0;
    int64_t spent = 0, begin = clock_now();
    size_t batches = (t->pages + t->batch - 1) / t->batch, step = golden_step(batches), n = 0;
    for (size_t i = 0; i < batches && (i == 0 || clock_now() - begin < TIME_BOX); i++, n = (n + step) % batches) {
        size_t at = n * t->batch;
        size_t pages = t->pages - at < t->batch ? t->pages - at : t->batch, size = pages * RAM_PAGE_SIZE;
        const uint8_t *from = t->bytes + at * RAM_PAGE_SIZE;
        int64_t cpu = clock_thread_cpu();
        bool noise = t->bypass && sample_is_noise(from, size);
        size_t out = noise ? 0 : codec->encode(encoder, from, size, t->out, size - 1, row->use.level);
        spent += clock_thread_cpu() - cpu;
        in += size;
        sent += out > 0 ? out : size;
    }
    codec->encoder_free(encoder);
    t->cpu += spent;
    t->wall += clock_now() - begin;
    row->ratio = (double)sent / (double)in;
    row->encode_ns = (double)spent / (double)in;
    return 0;
}

int content_measure(struct content *c, const struct params *params, uint8_t *bytes, size_t pages, struct error *err) {
    *c = (struct content){ 0 };
    if (pages == 0) {
        return 0;
    }
    list_rows(c, params);
    size_t batch = (size_t)params->value[PARAM_PAGES_PER_BATCH];
    CLEANUP_FREE uint8_t *out = malloc(batch * RAM_PAGE_SIZE);
    if (out == NULL || kind_sort(bytes, pages) < 0) { /* as a migration would, where it compresses */
        return error_set(err, ERROR_SYSTEM, "no memory to compress pages");
    }
    struct trial t = { bytes, pages, batch, params->value[PARAM_BYPASS_COMPRESSION] == PARAM_BYPASS_AUTO, out, 0, 0 };
    for (unsigned i = 0; i < c->count; i++) {
        if (try_row(&c->rows[i], &t, err) < 0) {
            return -1;
        }
    }
    c->stretch = t.cpu > 0 && t.wall > t.cpu ? (double)t.wall / (double)t.cpu : 1;
    return 0;
}

double content_cpus(const struct content_means *m) {
    double got = m->threads / (m->stretch >= 1 ? m->stretch : 1);
    return m->budget > 0 && m->budget < got ? m->budget : got;
}

struct sim_cost content_cost(const struct content *c, const struct content_means *m, struct rung *use, double *ratio) {
    static const struct content_row raw = { { CODEC_NONE, 0 }, 1, 0 };
    struct choice choice;
    choice_init(&choice, m->channels, m->cpus);
    choice_set_cpus(&choice, m->cpus, m->threads);
    choice.stretch = m->stretch >= 1 ? m->stretch : 1;
    choice.gather_ns = m->gather_ns;
    choice.link_ns = 1e9 / m->wire_rate;
    const struct content_row *row = c->count > 0 ? &c->rows[0] : &raw;
    if (c->count == CHOICE_RUNGS) {
        struct rung_cost rungs[CHOICE_RUNGS];
        for (int i = 0; i < CHOICE_RUNGS; i++) {
            rungs[i] =
                (struct rung_cost){ .encode_ns = c->rows[i].encode_ns, .shape = c->rows[i].ratio, .measured = true };
        }
        row = &c->rows[choice_foresee(&choice, rungs)];
    }
    choice_set_cpus(&choice, content_cpus(m), m->threads);
    struct sim_cost cost = { row->ratio * RAM_PAGE_SIZE + PAGE_HEAD,
                             choice_work(&choice, &row->use, row->encode_ns, row->ratio) * RAM_PAGE_SIZE };
    choice_destroy(&choice);
    if (use != NULL) {
        *use = row->use;
        *ratio = row->ratio;
    }
    return cost;
}
