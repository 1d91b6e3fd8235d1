/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that a device shares with us: a sealed memfd that is mapped here. */
#ifndef GODWIT_ACCEL_MEMORY_H
#define GODWIT_ACCEL_MEMORY_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct accel_memory {
    int fd;
    uint8_t *base; /* NULL: there is none */
    size_t size;   /* a multiple of the page size */
};

enum accel_access { ACCEL_DEVICE_READS, ACCEL_DEVICE_WRITES };

/* All holes: memory is taken when it is written to. Whoever gets the descriptor can neither shrink it, which would be a
 * SIGBUS for us, nor, with ACCEL_DEVICE_READS, write to it by any means. */
int memory_create(struct accel_memory *m, size_t size, enum accel_access access, struct error *err);
/* Takes memory that was never created, or is gone already. */
void memory_free(struct accel_memory *m);

static inline size_t memory_round(size_t size) {
    return (size + 4095) & ~(size_t)4095;
}

#endif
