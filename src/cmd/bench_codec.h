/* SPDX-License-Identifier: Apache-2.0 */
/* What codecs do on one sample of memory: one row a codec and level. */
#ifndef GODWIT_CMD_BENCH_CODEC_H
#define GODWIT_CMD_BENCH_CODEC_H

#include "base/error.h"
#include "cmd/bench_sample.h"
#include "codec/codec.h"

#include <stddef.h>
#include <stdint.h>

/* Anything that encodes and decodes a batch at a time can be a row: an accelerator is one more struct codec_ops. */
struct bench_row {
    const struct codec_ops *codec;
    int level;
    /* Filled by bench_row_measure(). */
    uint64_t in, out;      /* bytes; a batch that does not shrink counts as it is, because so it is sent */
    uint64_t decoded;      /* bytes of `in` that were compressed, and so were decompressed */
    double encode, decode; /* bytes of memory in a second of CPU time; 0: nothing to measure */
    /* Filled by bench_rows_compare(): bits a second of the link, 0 for never. */
    double beats_raw_below, best_below;
};

/* The rows of this host, owned by the caller (free()); NULL when there is no memory. */
struct bench_row *bench_rows_new(size_t *count);

/* Goes over the sample once, or over as much of it as takes some two seconds, in batches that lie evenly over it.
 * Fails when a batch does not come back as it was. The sample has a page at least. */
int bench_row_measure(struct bench_row *row, const struct bench_sample *sample, unsigned batch_pages,
                      struct error *err);

/*
 * One core compresses a batch and then sends it: a byte of memory takes  1/encode + (out/in)/link  seconds, and raw
 * 1/link. Drawn over 1/link these are straight lines, and the best row for a link is the lowest line there.
 */
void bench_rows_compare(struct bench_row *rows, size_t count);

#endif
