/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/limit.h"

#include "base/clock.h"

/* How far the bucket may run ahead of the clock: short bursts pass at once, the mean is exact. */
#define BURST_NS (5 * CLOCK_MS)
#define SLICE_NS (10 * CLOCK_MS)

void limit_set(struct limit *l, uint64_t rate) {
    atomic_store(&l->rate, rate);
    atomic_store(&l->next_free, 0);
}

void limit_lift(struct limit *l) {
    atomic_store(&l->off, true);
}

/* Books `cost` ns on the shared clock; returns when that booking begins. */
static int64_t book(struct limit *l, int64_t cost) {
    int64_t now = clock_now(), free_at = atomic_load(&l->next_free), begin;
    do {
        begin = free_at > now ? free_at : now;
    } while (!atomic_compare_exchange_weak(&l->next_free, &free_at, begin + cost));
    return begin;
}

void limit_wait(struct limit *l, size_t bytes) {
    uint64_t rate = atomic_load_explicit(&l->rate, memory_order_relaxed);
    if (rate == 0 || atomic_load_explicit(&l->off, memory_order_relaxed)) {
        return;
    }
    int64_t begin = book(l, (int64_t)((double)bytes * 1e9 / (double)rate));
    while (!atomic_load(&l->off) && atomic_load(&l->rate) == rate) {
        int64_t wait = begin - BURST_NS - clock_now();
        if (wait <= 0) {
            return;
        }
        clock_sleep(wait < SLICE_NS ? wait : SLICE_NS);
    }
}
