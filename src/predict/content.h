/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine's codecs do with some of the guest's pages on this host, and which of them it would come to use. */
#ifndef GODWIT_PREDICT_CONTENT_H
#define GODWIT_PREDICT_CONTENT_H

#include "base/error.h"
#include "params/params.h"
#include "predict/simulate.h"
#include "ram/choice.h"

#include <stddef.h>
#include <stdint.h>

struct content {
    unsigned count; /* 0: there was nothing to try */
    struct content_row {
        struct rung use;
        double ratio, encode_ns; /* bytes out for a byte in; CPU time for a byte in */
    } rows[CHOICE_RUNGS];
    double stretch; /* how much longer it took by the clock than in CPU time, 1 or more: others work on this host */
};

/* What sending has besides its codec. */
struct content_means {
    double gather_ns; /* CPU time for a byte: reading, looking for zeros, digest */
    double cpus;      /* that the engine plans with: its choice depends on it, and not how fast it is */
    double budget;    /* CPUs that it keeps within; 0: none */
    double stretch;   /* as above */
    unsigned threads, channels;
    double wire_rate; /* bytes/s */
};

/* Tries what `compression` allows on `pages` pages, in batches as pages-per-batch has it, each for a limited time.
 * Pages of a kind go together, as in a migration: `bytes` is sorted. */
int content_measure(struct content *c, const struct params *params, uint8_t *bytes, size_t pages, struct error *err);

/* CPUs that the engine's work really gets. */
double content_cpus(const struct content_means *means);

/* What a page costs with these means, and what it is compressed with (NULL: nobody asks). */
struct sim_cost content_cost(const struct content *c, const struct content_means *means, struct rung *use,
                             double *ratio);

#endif
