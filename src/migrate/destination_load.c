/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the source what receiving costs here: on a fast link it is what the choice of codecs turns on. */
#include "migrate/destination.h"

#include "base/clock.h"

#define LEAST_BYTES (UINT64_C(1) << 20) /* less says more of the wake-ups than of the work */

static const struct {
    const char *name;
    size_t at;
} told[] = {
    { "read", offsetof(struct receive_costs, read) },
    { "place", offsetof(struct receive_costs, place) },
    { "lz4", offsetof(struct receive_costs, decode[CODEC_LZ4]) },
    { "zstd", offsetof(struct receive_costs, decode[CODEC_ZSTD]) },
    { "deflate", offsetof(struct receive_costs, decode[CODEC_DEFLATE]) },
};

/* ns a byte since the last look, when there were enough bytes. */
static void add_rate(json_t *message, const char *name, const struct cost *now, struct destination_cost *last) {
    uint64_t bytes = atomic_load(&now->bytes) - last->bytes, ns = atomic_load(&now->ns) - last->ns;
    if (bytes < LEAST_BYTES) {
        return;
    }
    *last = (struct destination_cost){ last->bytes + bytes, last->ns + ns };
    json_object_set_new(message, name, json_real((double)ns / (double)bytes));
}

int destination_tell_load(struct destination *d, struct error *err) {
    int64_t now = clock_now();
    if (d->receive == NULL || d->loading || now < d->load_due) {
        return 0;
    }
    d->load_due = now + LOAD_INTERVAL;
    json_t *message = json_pack("{s:s, s:i}", "type", "load", "threads", (int)ram_receive_threads(d->receive));
    const struct receive_costs *costs = ram_receive_costs(d->receive);
    for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
        const struct cost *c = (const struct cost *)((const char *)costs + told[i].at);
        add_rate(message, told[i].name, c, &d->told[i]);
    }
    return link_send(d->link, message, err);
}
