/* SPDX-License-Identifier: Apache-2.0 */
/* What a batch's pages are sent as: chosen, compressed, or left as they are. */
#ifndef GODWIT_RAM_ENCODE_H
#define GODWIT_RAM_ENCODE_H

#include "base/error.h"
#include "ram/batch.h"
#include "ram/choice.h"
#include "ram/counters.h"

#include <stdbool.h>

/* One for each thread: the codecs' states, made when they are first used. */
struct encoder {
    struct choice *choice;                          /* shared by all threads */
    const struct compression_settings *compression; /* likewise */
    void *states[CODEC_COUNT];
    uint8_t *rival; /* a second result, while two codecs are compared */
};

void encoder_free(struct encoder *e);
/* What to do with a batch: `pick`, or false when its pages had best go as they are; then the payload is settled. */
bool encode_choose(struct encoder *e, struct batch *b, struct pick *pick);
/* Does it: fills payload, payload_size and codec. -1 without memory. */
int encode_batch(struct encoder *e, const struct pick *pick, struct batch *b, struct error *err);
/* Counts a batch whose payload is settled. */
void encode_count(struct ram_counters *n, const struct batch *b);

#endif
