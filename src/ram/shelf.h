/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches that are being filled, one for each kind of page.
 *
 * Whoever gathers takes a shelf, sorts pages of a chunk into its batches until one is full, takes that one out, puts an
 * empty one in its place and the shelf back: the next one goes on where this one left off, while the first compresses.
 * So a page of a kind that is rare waits on the shelf for others, at most until the pass has no more chunks; then what
 * is there goes as it is.
 *
 * All that lies on a shelf is of one block and one pass, and its batches are filled in ascending order.
 */
#ifndef GODWIT_RAM_SHELF_H
#define GODWIT_RAM_SHELF_H

#include "ram/batch.h"
#include "ram/pass.h"

struct shelf {
    struct shelf *next;      /* in a list of the sender's */
    struct pass_chunk chunk; /* what is left to gather of it; first == end: nothing */
    unsigned kinds;          /* that have a batch here: PAGE_KINDS, or 1, when pages are not told apart */
    enum page_kind last;     /* of the page that came last: the next one is read to where it belongs then */
    struct batch *batch[PAGE_KINDS];
};

/* Of pages that are told apart a batch leaves a little before it is full, so that what is read at once need not end
 * with the fullest of them. */
#define SHELF_LEAST_ROOM 8u

/* Neither a page nor a rest of a chunk is on it. */
bool shelf_is_empty(const struct shelf *s);
/* Pages that each of its batches has room for; of all of them, or of the first one alone. */
uint32_t shelf_room(const struct shelf *s, bool apart);
/* The kind whose batch is to leave, or -1: those that are full, and, with `all`, those that are not empty. */
int shelf_leaves(const struct shelf *s, bool all);
/* Puts an empty batch in the place of one that leaves, and returns that. */
struct batch *shelf_take(struct shelf *s, int kind, struct batch *empty);
/* For pages of another block or pass: nothing is on it but empty batches. */
void shelf_reset(struct shelf *s, uint16_t block, uint32_t pass);

#endif
