/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/peer.h"

#include "ram/send.h"

uint64_t peer_queued(const struct peer *p) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < p->channel_count; i++) {
        bytes += conn_queued(&p->channels[i]);
    }
    return bytes;
}

uint64_t peer_sent(const struct peer *p) {
    uint64_t bytes = p->link != NULL ? atomic_load(&link_conn(p->link)->sent) : 0;
    for (unsigned i = 0; i < p->channel_count; i++) {
        bytes += atomic_load(&p->channels[i].sent);
    }
    return bytes;
}

/* A number of the peer's, as far as it makes sense; else 0, which is unknown. */
static double number(json_t *message, const char *name) {
    double value = json_number_value(json_object_get(message, name));
    return value > 0.001 && value < 1e6 ? value : 0;
}

void peer_take_load(struct ram_send *send, json_t *message) {
    struct peer_load load = { .read_ns = number(message, "read"),
                              .place_ns = number(message, "place"),
                              .decode_ns = { [CODEC_LZ4] = number(message, "lz4"),
                                             [CODEC_ZSTD] = number(message, "zstd"),
                                             [CODEC_DEFLATE] = number(message, "deflate") },
                              .threads = number(message, "threads") };
    ram_send_set_peer(send, &load);
}
