/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/tally.h"

#include <xxhash.h>

int tally_open(struct tally *t, struct error *err) {
    *t = (struct tally){ .state = XXH3_createState() };
    if (t->state == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory for a digest");
    }
    XXH3_128bits_reset(t->state);
    return 0;
}

void tally_close(struct tally *t) {
    XXH3_freeState(t->state);
    t->state = NULL;
}

void tally_add(struct tally *t, const uint8_t *data, size_t size) {
    XXH3_128bits_update(t->state, data, size);
    t->bytes += size;
}

void tally_digest(const struct tally *t, uint64_t digest[2]) {
    XXH128_hash_t h = XXH3_128bits_digest(t->state);
    digest[0] = h.low64;
    digest[1] = h.high64;
}
