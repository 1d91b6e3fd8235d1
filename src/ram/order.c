/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/order.h"

#include "base/cleanup.h"
#include "base/fault.h"

int order_init(struct order *o, unsigned channels, struct error *err) {
    *o = (struct order){ .channels = channels, .placed = calloc(channels, sizeof(o->placed[0])) };
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->changed, NULL);
    return o->placed != NULL ? 0 : error_errno(err, ERROR_SYSTEM, "no memory for the channels");
}

void order_destroy(struct order *o) {
    pthread_cond_destroy(&o->changed);
    pthread_mutex_destroy(&o->lock);
    free(o->placed);
}

static uint32_t least_placed(const struct order *o) {
    uint32_t least = UINT32_MAX;
    for (unsigned i = 0; i < o->channels; i++) {
        least = o->placed[i] < least ? o->placed[i] : least;
    }
    return least;
}

static int check_next(const struct order *o, unsigned channel, uint32_t pass, struct error *err) {
    if (pass == o->placed[channel] + 1 && pass != 0) {
        return 0;
    }
    return error_set(err, ERROR_PEER, "channel %u carries pass %u after pass %u, which cannot be", channel, pass,
                     o->placed[channel]);
}

int order_enter(struct order *o, unsigned channel, uint32_t pass, struct error *err) {
    LOCK_GUARD(&o->lock);
    if (check_next(o, channel, pass, err) < 0) {
        return -1;
    }
    while (least_placed(o) < pass - 1 && !o->broken && !fault_planned("no-order", NULL)) {
        pthread_cond_wait(&o->changed, &o->lock);
    }
    return o->broken ? error_set(err, ERROR_CANCELLED, "the migration was broken off") : 0;
}

int order_leave(struct order *o, unsigned channel, uint32_t pass, struct error *err) {
    LOCK_GUARD(&o->lock);
    if (check_next(o, channel, pass, err) < 0) {
        return -1;
    }
    o->placed[channel] = pass;
    pthread_cond_broadcast(&o->changed);
    return 0;
}

uint32_t order_placed(struct order *o) {
    LOCK_GUARD(&o->lock);
    return least_placed(o);
}

uint32_t order_placed_by(struct order *o, unsigned channel) {
    LOCK_GUARD(&o->lock);
    return o->placed[channel];
}

void order_break(struct order *o) {
    LOCK_GUARD(&o->lock);
    o->broken = true;
    pthread_cond_broadcast(&o->changed);
}
