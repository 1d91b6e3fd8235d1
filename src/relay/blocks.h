/* SPDX-License-Identifier: Apache-2.0 */
/* The RAM blocks that a stream has listed. */
#ifndef GODWIT_RELAY_BLOCKS_H
#define GODWIT_RELAY_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCKS_MOST 1024

struct listed_block {
    char *name;
    uint64_t size; /* bytes */
};

struct blocks {
    struct listed_block *list; /* names stay where they are */
    size_t count;
};

/* false: there are too many, one has the name already, or there is no memory. */
bool blocks_add(struct blocks *b, const uint8_t *name, size_t length, uint64_t size);
/* NULL: not listed. Valid until the next blocks_add(). */
const struct listed_block *blocks_find(const struct blocks *b, const uint8_t *name, size_t length);
void blocks_free(struct blocks *b);

#endif
