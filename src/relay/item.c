/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/item.h"

#include "vmm/qemu/stream_format.h"

_Static_assert(ITEM_PAGE_SIZE == PAGE_SIZE && ITEM_NAME_MOST == NAME_MOST, "as QEMU has them");

size_t item_head(const struct item *i, uint8_t out[ITEM_HEAD_MOST]) {
    size_t size = 8;
    if (i->kind != ITEM_PAGE && i->kind != ITEM_ZERO) {
        return 0;
    }
    put_be64(out, i->offset | (i->kind == ITEM_PAGE ? PAGE : ZERO) | (i->named ? 0u : CONTINUE));
    if (i->named) {
        size_t n = strlen(i->block);
        out[size] = (uint8_t)n;
        memcpy(out + size + 1, i->block, n);
        size += 1 + n;
    }
    if (i->kind == ITEM_ZERO) {
        out[size++] = i->fill;
    }
    return size;
}
