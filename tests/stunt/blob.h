/* SPDX-License-Identifier: Apache-2.0 */
/* A growing run of bytes to write numbers into, and to read them back from with every length checked. */
#ifndef STUNT_BLOB_H
#define STUNT_BLOB_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct blob {
    uint8_t *data; /* owned */
    size_t length, space;
    size_t at; /* where reading goes on */
};

void blob_free(struct blob *blob);
#define CLEANUP_BLOB __attribute__((cleanup(blob_free)))

/* Little endian. Running out of memory ends the process: this is a test tool. */
void blob_put(struct blob *blob, uint64_t value);
void blob_put_bytes(struct blob *blob, const void *bytes, size_t length);

int blob_get(struct blob *blob, uint64_t *value, struct error *err);
/* A number in [low, high]; `what` names it in the error. */
int blob_get_range(struct blob *blob, const char *what, uint64_t low, uint64_t high, uint64_t *value,
                   struct error *err);
int blob_get_bytes(struct blob *blob, void *bytes, size_t length, struct error *err);

#endif
