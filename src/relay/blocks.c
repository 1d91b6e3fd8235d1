/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/blocks.h"

#include <stdlib.h>
#include <string.h>

bool blocks_add(struct blocks *b, const uint8_t *name, size_t length, uint64_t size) {
    /* A name with a NUL in it would not be the same when it is written again. */
    if (b->count == BLOCKS_MOST || length == 0 || memchr(name, '\0', length) != NULL ||
        blocks_find(b, name, length) != NULL) {
        return false;
    }
    struct listed_block *list = realloc(b->list, (b->count + 1) * sizeof(list[0]));
    if (list == NULL) {
        return false;
    }
    b->list = list;
    char *copy = strndup((const char *)name, length);
    if (copy == NULL) {
        return false;
    }
    list[b->count++] = (struct listed_block){ copy, size };
    return true;
}

const struct listed_block *blocks_find(const struct blocks *b, const uint8_t *name, size_t length) {
    for (size_t i = 0; i < b->count; i++) {
        if (strlen(b->list[i].name) == length && memcmp(b->list[i].name, name, length) == 0) {
            return &b->list[i];
        }
    }
    return NULL;
}

void blocks_free(struct blocks *b) {
    for (size_t i = 0; i < b->count; i++) {
        free(b->list[i].name);
    }
    free(b->list);
    *b = (struct blocks){ 0 };
}
