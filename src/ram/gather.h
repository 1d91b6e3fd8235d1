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
#include "ram/shelf.h"

struct gather {
    struct pass *pass;
    const struct digest_key *key;
    struct cache *cache; /* NULL: no deltas; the main thread changes it between passes */
    const struct compression_settings *settings;
    struct ram_counters *counters;
};

/* Pages that are looked at in one go (64 MiB). Where hardly any has to be sent a thread would else read the whole guest
 * before it is asked again whether it shall go on, and how much CPU time it may have. */
#define GATHER_MAX_LOOKED_AT 16384u

struct gathered {
    int leaves;          /* the kind whose batch is to leave the shelf; -1: none yet */
    uint32_t full_pages; /* that were put on the shelf to be sent in full */
};

/* Puts pages of the pass on a shelf until a batch has to leave it: because it is full, because what comes next is of
 * another block, or because the pass has no more. When no more leaves the shelf is empty. `apart`: a kind of page to
 * each batch; otherwise all to the first. -1 when guest memory cannot be read. */
int gather(const struct gather *g, struct shelf *s, uint32_t pass, bool apart, struct gathered *got, struct error *err);

#endif
