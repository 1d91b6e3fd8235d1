/* SPDX-License-Identifier: Apache-2.0 */
/* How many bytes a stream has had, and the digest over all of them. */
#ifndef GODWIT_RELAY_TALLY_H
#define GODWIT_RELAY_TALLY_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct tally {
    uint64_t bytes;
    void *state; /* XXH3's */
};

int tally_open(struct tally *t, struct error *err);
void tally_close(struct tally *t);
void tally_add(struct tally *t, const uint8_t *data, size_t size);
/* XXH3-128 of all bytes so far, the low half first. */
void tally_digest(const struct tally *t, uint64_t digest[2]);

#endif
