/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/load_report.h"

#include "base/clock.h"

#define INTERVAL (250 * CLOCK_MS)
#define LEAST_BYTES (UINT64_C(1) << 20) /* less says more of the wake-ups than of the work */

static const struct {
    const char *name;
    size_t at;
} rates[] = {
    { "read", offsetof(struct receive_costs, read) },
    { "place", offsetof(struct receive_costs, place) },
    { "lz4", offsetof(struct receive_costs, decode[CODEC_LZ4]) },
    { "zstd", offsetof(struct receive_costs, decode[CODEC_ZSTD]) },
    { "deflate", offsetof(struct receive_costs, decode[CODEC_DEFLATE]) },
};
_Static_assert(sizeof(rates) / sizeof(rates[0]) <= LOAD_REPORT_RATES, "there is a place for what was told of each");

/* ns a byte since the last time, when there were enough bytes. */
static void add_rate(json_t *message, const char *name, const struct cost *now, struct load_told *last) {
    uint64_t bytes = atomic_load(&now->bytes) - last->bytes, ns = atomic_load(&now->ns) - last->ns;
    if (bytes < LEAST_BYTES) {
        return;
    }
    *last = (struct load_told){ last->bytes + bytes, last->ns + ns };
    json_object_set_new(message, name, json_real((double)ns / (double)bytes));
}

static int tell(void *opaque, struct error *err) {
    struct load_report *l = opaque;
    loop_arm(l->loop, &l->next, clock_now() + INTERVAL);
    json_t *message = json_pack("{s:s, s:i}", "type", "load", "threads", (int)ram_receive_threads(l->receive));
    const struct receive_costs *costs = ram_receive_costs(l->receive);
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        const struct cost *c = (const struct cost *)((const char *)costs + rates[i].at);
        add_rate(message, rates[i].name, c, &l->told[i]);
    }
    return link_send(l->link, message, err);
}

void load_report_start(struct load_report *l, struct loop *loop, struct link *link, struct ram_receive *receive) {
    *l = (struct load_report){ .loop = loop, .link = link, .receive = receive };
    l->next = (struct loop_deadline){ .due = tell, .opaque = l };
    loop_arm(loop, &l->next, clock_now());
}

void load_report_stop(struct load_report *l) {
    if (l->loop != NULL) {
        loop_disarm(l->loop, &l->next);
    }
}
