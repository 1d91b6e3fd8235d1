/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page's older version never lands after a newer one.
 *
 * Within a pass each page is sent once, on whichever channel is free. Two versions of a page are therefore always in
 * different passes, perhaps on different channels. The rule that orders them: nothing of pass n+1 is placed before
 * every channel has placed all that it carries of pass n. It is kept here, at the receiver, where the danger is; the
 * sender never waits for an answer between passes. (The bug that seeds.md C8 tells of was the lack of just this.)
 */
#ifndef GODWIT_RAM_ORDER_H
#define GODWIT_RAM_ORDER_H

#include "base/error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct order {
    pthread_mutex_t lock; /* owns all that follows */
    pthread_cond_t changed;
    unsigned channels;
    uint32_t *placed; /* by channel: the last pass of which it has placed everything */
    bool broken;
};

int order_init(struct order *o, unsigned channels, struct error *err);
void order_destroy(struct order *o);
/* A channel wants to place something of `pass`: waits its turn. -1 when the order was broken off, or when `pass` is not
 * the one that comes next on this channel. */
int order_enter(struct order *o, unsigned channel, uint32_t pass, struct error *err);
/* A channel has placed all of `pass`. */
int order_leave(struct order *o, unsigned channel, uint32_t pass, struct error *err);
/* The last pass that all channels have placed in full. */
uint32_t order_placed(struct order *o);
/* The last pass that this channel has brought whole. */
uint32_t order_placed_by(struct order *o, unsigned channel);
/* Ends all waits with an error. */
void order_break(struct order *o);

#endif
