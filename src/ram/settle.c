/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/settle.h"

#include <string.h>

#define PRICE_STEP 1.7
#define PRICES 15 /* the last is 1700 times the least: nothing is compressed */

static double larger(double a, double b) {
    return a > b ? a : b;
}

double settle_cost(const struct rung_time *r, double price) {
    return r->link + price * larger(r->cpu, r->peer);
}

static int cheapest(const struct rung_time *rungs, double price) {
    int best = 0;
    for (int i = 1; i < CHOICE_RUNGS; i++) {
        if (rungs[i].known && settle_cost(&rungs[i], price) < settle_cost(&rungs[best], price)) {
            best = i;
        }
    }
    return best;
}

/* For a byte of all kinds together. */
static struct rung_time sum(const struct settle_table *t, const int rung[PAGE_KINDS]) {
    struct rung_time all = { 0 };
    for (int k = 0; k < PAGE_KINDS; k++) {
        const struct rung_time *r = &t->rung[k][rung[k]];
        all.link += t->part[k] * r->link;
        all.cpu += t->part[k] * r->cpu;
        all.peer += t->part[k] * r->peer;
    }
    return all;
}

static double blend(double a, double b, double second) {
    return a + second * (b - a);
}

static double time_of(const struct settle_table *t, const struct rung_time *a, const struct rung_time *b,
                      double second) {
    double cpu = blend(a->cpu, b->cpu, second);
    return larger(larger(blend(a->link, b->link, second), cpu), blend(a->peer, b->peer, second)) + t->cpu_price * cpu;
}

/* Where two lines meet, one from a0 to a1, the other from b0 to b1; 0 when they don't. */
static double meet(double a0, double a1, double b0, double b1) {
    double rise = (a1 - a0) - (b1 - b0), at = rise < 0 || rise > 0 ? (b0 - a0) / rise : 0;
    return at > 0 && at < 1 ? at : 0;
}

/* Of two prices at which the same is best the higher one is nearer to what the CPUs' time is worth, where the link
 * waits for them. */
static bool link_waits(const struct rung_time *a, const struct rung_time *b, double second) {
    return larger(blend(a->cpu, b->cpu, second), blend(a->peer, b->peer, second)) > blend(a->link, b->link, second);
}

/* Takes the share of the second rungs at which the time is least, when that is less than `s` has. Prices rise. */
static void consider(const struct settle_table *t, int rung[2][PAGE_KINDS], double price, struct settled *s) {
    struct rung_time a = sum(t, rung[0]), b = sum(t, rung[1]);
    double at[] = { 0, meet(a.link, b.link, a.cpu, b.cpu), meet(a.link, b.link, a.peer, b.peer),
                    meet(a.cpu, b.cpu, a.peer, b.peer) };
    for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        double time = time_of(t, &a, &b, at[i]);
        if (s->price <= 0 || time < s->time || (time <= s->time && link_waits(&a, &b, at[i]))) {
            memcpy(s->rung, rung, sizeof(s->rung));
            s->second = at[i];
            s->price = price;
            s->time = time;
        }
    }
}

void settle_find(const struct settle_table *t, struct settled *s) {
    int rung[2][PAGE_KINDS];
    double price = t->cpu_price;
    *s = (struct settled){ 0 };
    for (int n = 0; n < PRICES; n++) {
        for (int k = 0; k < PAGE_KINDS; k++) {
            rung[1][k] = cheapest(t->rung[k], price);
        }
        if (n == 0) {
            memcpy(rung[0], rung[1], sizeof(rung[0]));
        }
        consider(t, rung, price, s);
        memcpy(rung[0], rung[1], sizeof(rung[0]));
        if (n == PRICES - 1) {
            consider(t, rung, price, s);
        }
        price *= PRICE_STEP;
    }
}
