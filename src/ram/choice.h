/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which codec the next batch gets, one chooser per channel.
 *
 * With compression=auto the chooser compares the time until a batch is in place: raw bytes at the rate at which the
 * channel takes them, against the codec's time plus the fewer bytes at that rate. All three are running means of what
 * this channel has just seen; the codec that is not in use is tried again now and then.
 */
#ifndef GODWIT_RAM_CHOICE_H
#define GODWIT_RAM_CHOICE_H

#include "codec/codec.h"

#include <stddef.h>
#include <stdint.h>

/* What the user set; may change while running. */
struct compression_settings {
    _Atomic int codec; /* COMPRESSION_AUTO or a codec_id */
    _Atomic int lz4_acceleration;
};

#define COMPRESSION_AUTO (-1)

struct choice {
    double wire_ns;   /* to send one byte on the wire */
    double encode_ns; /* to compress one byte of guest memory */
    double ratio;     /* bytes out per byte in */
    uint64_t batches;
};

/* The codec for the next batch. */
enum codec_id choice_pick(struct choice *c, const struct compression_settings *s);
/* What a batch cost: raw bytes, bytes sent, and the time to encode (0 when it was not) and to send. */
void choice_learn(struct choice *c, size_t raw, size_t sent, int64_t encode_ns, int64_t send_ns);

#endif
