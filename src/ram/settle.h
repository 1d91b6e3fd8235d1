/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which rung each kind of page gets so that all of them together are in place soonest.
 *
 * The link and the CPUs are shared: noise that goes raw leaves the CPUs to text, and text that shrinks leaves the link
 * to noise. So the time of a byte is not found kind by kind:
 *
 *   time = max( sum of link, sum of CPU, sum of the peer's time ) over all kinds, each by its part of what is sent
 *
 * and where no rung fills link and CPUs alike, a part of the batches takes one and the rest another: a linear program.
 * It is solved by its price, that of CPU time in time of the link: at a price each kind takes what is cheapest, and
 * between the rungs at one price and those at the next there is a share at which neither link nor CPU waits. A pure
 * function.
 */
#ifndef GODWIT_RAM_SETTLE_H
#define GODWIT_RAM_SETTLE_H

#include "ram/kind.h"

#include <stdbool.h>

/* The rungs of the ladder (ram/choice.h), weak to strong. */
#define CHOICE_RUNGS 10

/* For a byte of guest memory, ns, each as if it had the link, or all CPUs of its side, for itself. */
struct rung_time {
    double link, cpu, peer;
    bool known; /* it may be chosen */
};

struct settle_table {
    struct rung_time rung[PAGE_KINDS][CHOICE_RUNGS]; /* rung 0 is known, of every kind */
    double part[PAGE_KINDS];                         /* of the bytes; all together 1 */
    double cpu_price;                                /* at least: of the CPU's time, whatever the link does */
};

struct settled {
    int rung[2][PAGE_KINDS];
    double second; /* part of the batches, of each kind, that takes rung[1]; the rest takes rung[0] */
    double price;  /* at which they are the cheapest */
    double time;   /* for a byte */
};

/* What a byte costs at a price. */
double settle_cost(const struct rung_time *r, double price);
void settle_find(const struct settle_table *t, struct settled *s);

#endif
