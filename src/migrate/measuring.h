/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that wants to know what the link carries: it sends filler, which is counted and thrown away, for about a
 * second or 1 GiB; then it is told how much came.
 *
 * Counting begins late: the first bytes fill queues on their way, and shapers let a burst through.
 */
#ifndef GODWIT_MIGRATE_MEASURING_H
#define GODWIT_MIGRATE_MEASURING_H

#include "base/clock.h"
#include "wire/hello.h"

#include <stdbool.h>
#include <stdint.h>

#define MEASURE_PARTS 5
#define MEASURE_PATIENCE (10 * CLOCK_S) /* for all of it, however it drips */

struct measuring {
    uint64_t seen, bytes;      /* in all; in this part */
    int64_t begun, counted_at; /* clock_now(): the first bytes came; this part began; 0: not yet */
    unsigned count;            /* parts that are finished */
    struct measured parts[MEASURE_PARTS];
    bool told; /* the result: only its goodbye is missing */
};

enum measuring_state { MEASURING_ON, MEASURING_DONE, MEASURING_LEFT };

/* There is something to read at `fd`, which does not block; `peer` is its name for the log. MEASURING_LEFT: it closed
 * before it was told the result. */
enum measuring_state measuring_read(struct measuring *m, int fd, const char *peer);

#endif
