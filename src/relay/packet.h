/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What two relays say to each other on a connection, behind hello and welcome: packets, in each direction. A packet is
 * a header and `size` bytes (docs/protocol.md).
 *
 *   OPEN    from the source's relay, first: where its QEMU wanted to go, as text; "" where that is not known
 *   OPENED  the answer: a QEMU of the destination is connected
 *   DATA    the next bytes of the stream
 *   END     the stream has ended; no bytes
 *   ALIVE   nothing to say; no bytes
 *   ABORT   the carrying has failed; why, as text. Nothing comes behind it
 *
 * `position` and `digest` are of the stream of this direction to the end of this packet: how many bytes it has had, and
 * what they are. Only DATA has bytes of it. Whoever gives a stream out has seen both agree with what he has, before he
 * gives out a byte of the packet.
 */
#ifndef GODWIT_RELAY_PACKET_H
#define GODWIT_RELAY_PACKET_H

#include "base/error.h"

#include <stdint.h>

#define PACKET_HEADER_SIZE 48
#define PACKET_MOST (256u << 10) /* bytes of DATA in one */
#define PACKET_TEXT_MOST 1000u   /* of OPEN and ABORT */

enum packet_kind {
    PACKET_OPEN = 1,
    PACKET_OPENED = 2,
    PACKET_DATA = 3,
    PACKET_END = 4,
    PACKET_ALIVE = 5,
    PACKET_ABORT = 6,
};

struct packet {
    uint8_t kind;
    uint32_t size; /* bytes behind the header */
    uint64_t position;
    uint64_t digest[2];
};

void packet_encode(const struct packet *p, uint8_t out[PACKET_HEADER_SIZE]);
/* Checks all that a header can be checked for by itself: what is filled is a known kind with a size that it may have.
 */
int packet_decode(const uint8_t in[PACKET_HEADER_SIZE], struct packet *p, struct error *err);

#endif
