/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/choice.h"

#include <stdatomic.h>

#define LEARNING_BATCHES 8 /* compressed first: on a slow link, the wrong guess costs more than on a fast one */
#define TRIAL_INTERVAL 64
#define WEIGHT 0.06

static void mean(double *m, double value) {
    *m = *m == 0 ? value : *m + WEIGHT * (value - *m);
}

enum codec_id choice_pick(struct choice *c, const struct compression_settings *s) {
    int fixed = atomic_load_explicit(&s->codec, memory_order_relaxed);
    if (fixed != COMPRESSION_AUTO) {
        return (enum codec_id)fixed;
    }
    c->batches++;
    if (c->batches <= LEARNING_BATCHES || c->batches % TRIAL_INTERVAL == 0) {
        return CODEC_LZ4;
    }
    return c->encode_ns + c->ratio * c->wire_ns < c->wire_ns ? CODEC_LZ4 : CODEC_NONE;
}

void choice_learn(struct choice *c, size_t raw, size_t sent, int64_t encode_ns, int64_t send_ns) {
    mean(&c->wire_ns, (double)send_ns / (double)sent);
    if (encode_ns > 0) {
        mean(&c->encode_ns, (double)encode_ns / (double)raw);
        mean(&c->ratio, (double)sent / (double)raw);
    }
}
