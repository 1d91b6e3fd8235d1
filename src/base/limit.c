/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limit.h"

#include "base/clock.h"

/* How far the bucket may run ahead of the clock: short bursts pass at once, the mean is exact. */
#define BURST_NS (5 * CLOCK_MS)
#define SLICE_NS (10 * CLOCK_MS)
/* A booking that no migration lives to see drained; keeps the sums inside int64_t. */
#define LONGEST_NS (1e7 * 1e9)

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

void limit_wait(struct limit *l, uint64_t amount) {
    uint64_t rate = atomic_load_explicit(&l->rate, memory_order_relaxed);
    if (rate == 0 || atomic_load_explicit(&l->off, memory_order_relaxed)) {
        return;
    }
    double cost = (double)amount * 1e9 / (double)rate;
    int64_t begin = book(l, (int64_t)(cost < LONGEST_NS ? cost : LONGEST_NS));
    int64_t burst = l->burst > 0 ? l->burst : BURST_NS;
    while (!atomic_load(&l->off) && atomic_load(&l->rate) == rate) {
        int64_t wait = begin - burst - clock_now();
        if (wait <= 0) {
            return;
        }
        clock_sleep(wait < SLICE_NS ? wait : SLICE_NS);
    }
}
