/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a whole RAM block contains, as a number. Only pages that are not zero count, together with their place, so that
 * a hole and a page of zeros are the same, and nothing is allocated by looking.
 */
#ifndef STUNT_DIGEST_H
#define STUNT_DIGEST_H

#include "ram.h"

struct digest {
    uint64_t value;  /* XXH3-64 over (page, XXH3-64 of its content) of every page that is not zero, in order */
    uint16_t *pages; /* a short hash of every page, 0 for zero pages, to name the first that differs; owned */
    uint64_t count;  /* of pages */
};

int digest_take(const struct ram *ram, struct digest *digest, struct error *err);
void digest_free(struct digest *digest);
#define CLEANUP_DIGEST __attribute__((cleanup(digest_free)))

#endif
