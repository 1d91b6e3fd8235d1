/* SPDX-License-Identifier: Apache-2.0 */
/* Sending and taking packets on a connection. What is taken has been held against the stream's tally. */
#ifndef GODWIT_RELAY_POST_H
#define GODWIT_RELAY_POST_H

#include "base/error.h"
#include "relay/packet.h"
#include "relay/tally.h"
#include "wire/conn.h"

#include <stdbool.h>

/* A packet without bytes of the stream: `text` for OPEN and ABORT, NULL for the others. */
int post_word(struct conn *c, enum packet_kind kind, const struct tally *t, const char *text, struct error *err);
/* DATA, of 1 to PACKET_MOST bytes, which are added to the tally. The last of them is changed behind the digest when
 * `corrupt`. */
int post_data(struct conn *c, struct tally *t, uint8_t *data, size_t size, bool corrupt, struct error *err);

/* Takes one packet; `data` has room for PACKET_MOST bytes. Bytes of DATA are added to the tally, and it and the
 * packet's must agree then. A text ends with a NUL, and an ABORT is an error with that text. 1: the other has closed
 * the connection between two packets. */
int post_take(struct conn *c, struct tally *t, struct packet *p, uint8_t *data, struct error *err);

#endif
