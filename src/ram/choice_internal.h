/* SPDX-License-Identifier: Apache-2.0 */
/* Between choice.c, what codecs do and which is best, and choice_link.c, what the link carries; for nobody else. Under
 * the lock. */
#ifndef GODWIT_RAM_CHOICE_INTERNAL_H
#define GODWIT_RAM_CHOICE_INTERNAL_H

#include "ram/choice.h"

#define CHOICE_WEIGHT 0.1 /* of a new batch in the running means */
/* The factor for link_ns in the first window that the link does not fill; twice that growth in the next, and so on. */
#define CHOICE_LINK_GROWTH 0.97

static inline void choice_mean(double *m, double value, double weight) {
    *m += weight * (value - *m);
}

/* Settles for each kind what its batches get from now on. */
void choice_find_best(struct choice *c);
/* What the destination needs for a byte, of all kinds as they are sent now. */
double choice_peer_time(const struct choice *c);

#endif
