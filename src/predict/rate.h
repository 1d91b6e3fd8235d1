/* SPDX-License-Identifier: Apache-2.0 */
/* What a link carries, tried out with a receiver that waits (docs/protocol.md, "Measuring"). */
#ifndef GODWIT_PREDICT_RATE_H
#define GODWIT_PREDICT_RATE_H

#include "base/error.h"
#include "wire/address.h"

#include <stdint.h>

struct rate {
    double bytes;       /* a second, of payload */
    int64_t round_trip; /* ns; 0: not known */
};

/* Takes some 2 s. `signal_fd` readable: ends with ERROR_CANCELLED. */
int rate_measure(const struct address *to, int signal_fd, struct rate *rate, struct error *err);

#endif
