/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/shelf.h"

bool shelf_is_empty(const struct shelf *s) {
    return s->chunk.first == s->chunk.end && shelf_leaves(s, true) < 0;
}

uint32_t shelf_room(const struct shelf *s, bool apart) {
    uint32_t room = batch_room(s->batch[0]);
    for (unsigned k = 1; apart && k < s->kinds; k++) {
        uint32_t other = batch_room(s->batch[k]);
        room = other < room ? other : room;
    }
    return room;
}

int shelf_leaves(const struct shelf *s, bool all) {
    uint32_t least = s->kinds > 1 ? SHELF_LEAST_ROOM : 1;
    for (unsigned k = 0; k < s->kinds; k++) {
        const struct batch *b = s->batch[k];
        if (!batch_is_empty(b) && (all || batch_room(b) < least)) {
            return (int)k;
        }
    }
    return -1;
}

struct batch *shelf_take(struct shelf *s, int kind, struct batch *empty) {
    struct batch *b = s->batch[kind];
    batch_reset(empty, b->block, b->pass);
    empty->kind = b->kind;
    s->batch[kind] = empty;
    return b;
}

void shelf_reset(struct shelf *s, uint16_t block, uint32_t pass) {
    for (unsigned k = 0; k < s->kinds; k++) {
        batch_reset(s->batch[k], block, pass);
        s->batch[k]->kind = (enum page_kind)k;
    }
    s->last = KIND_MIXED;
}
