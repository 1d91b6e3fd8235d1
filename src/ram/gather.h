/* SPDX-License-Identifier: Apache-2.0 */
/* From dirty pages to batches: reads guest memory, and keeps only what the destination does not have. */
#ifndef GODWIT_RAM_GATHER_H
#define GODWIT_RAM_GATHER_H

#include "base/error.h"
#include "ram/batch.h"
#include "ram/cache.h"
#include "ram/choice.h"
#include "ram/counters.h"
#include "ram/pass.h"

struct gather {
    struct pass *pass;
    const struct digest_key *key;
    struct cache *cache; /* NULL: no deltas; the main thread changes it between passes */
    const struct compression_settings *settings;
    struct ram_counters *counters;
};

/* Fills an empty batch with pages of one block, until it is full or the pass has no more for it. It may stay empty when
 * nothing is left. -1 when guest memory cannot be read. */
int gather_batch(const struct gather *g, struct batch *b, struct error *err);

#endif
