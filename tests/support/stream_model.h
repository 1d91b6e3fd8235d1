/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the destination's QEMU makes of a migration stream: which pages it places, in their order. Written to be simple,
 * and apart from vmm/qemu/stream.c, which it judges: the whole stream lies in memory.
 *
 * It knows a little more than the filter, so that tests can see what becomes of what the filter does not know: flag
 * 0x80 (no body), every command, and sections called "odd" (u32 n, n bytes).
 */
#ifndef GODWIT_TESTS_SUPPORT_STREAM_MODEL_H
#define GODWIT_TESTS_SUPPORT_STREAM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_PAGES_MOST 8192

struct model_page {
    char block[256];
    uint64_t where; /* offset, and what kind of page */
    uint64_t body;  /* a sum of it */
};

enum model_end { MODEL_DEVICES, MODEL_CUT, MODEL_BAD }; /* RAM has ended; the stream has; it is refused */

struct model {
    struct model_page pages[MODEL_PAGES_MOST];
    size_t count;
    enum model_end end;
    uint64_t listed; /* a sum of the list of blocks */
};

/* Fills `m`. What is behind the end of RAM it does not look at. */
void model_load(struct model *m, const uint8_t *data, size_t size);

/* Whether `out` places what `in` places, but for pages of blocks that are carried: of these none is there, or, where
 * `gave_up`, none before some page and all from it on. Of a stream that was cut the rest of a record may be anything.
 */
bool model_agrees(const struct model *in, const struct model *out, bool (*carried)(void *, const char *), bool gave_up);

#endif
