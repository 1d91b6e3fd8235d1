/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/packet.h"

#include "wire/bytes.h"

#include <xxhash.h>

#define MAGIC 0x01797267u /* "gry" 1 */
#define CHECK_AT 40

void packet_encode(const struct packet *p, uint8_t out[PACKET_HEADER_SIZE]) {
    put_u32(out, MAGIC);
    put_u32(out + 4, p->kind);
    put_u32(out + 8, p->size);
    put_u32(out + 12, 0);
    put_u64(out + 16, p->position);
    put_u64(out + 24, p->digest[0]);
    put_u64(out + 32, p->digest[1]);
    put_u64(out + CHECK_AT, XXH3_64bits(out, CHECK_AT));
}

static uint32_t most_of(uint32_t kind) {
    switch (kind) {
    case PACKET_DATA:
        return PACKET_MOST;
    case PACKET_OPEN:
    case PACKET_ABORT:
        return PACKET_TEXT_MOST;
    default:
        return 0;
    }
}

int packet_decode(const uint8_t in[PACKET_HEADER_SIZE], struct packet *p, struct error *err) {
    uint32_t kind = get_u32(in + 4), size = get_u32(in + 8);
    if (get_u32(in) != MAGIC || get_u64(in + CHECK_AT) != XXH3_64bits(in, CHECK_AT)) {
        return error_set(err, ERROR_CORRUPT, "a packet of the other relay is damaged");
    }
    if (kind < PACKET_OPEN || kind > PACKET_ABORT || size > most_of(kind) || get_u32(in + 12) != 0 ||
        (kind == PACKET_DATA && (size == 0 || size > get_u64(in + 16)))) {
        return error_set(err, ERROR_PEER, "the other relay sent a packet of kind %u and %u bytes, which is none", kind,
                         size);
    }
    *p = (struct packet){ .kind = (uint8_t)kind,
                          .size = size,
                          .position = get_u64(in + 16),
                          .digest = { get_u64(in + 24), get_u64(in + 32) } };
    return 0;
}
