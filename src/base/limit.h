/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A limit on what all threads of a migration use together: a leaky bucket on a shared clock. The unit is the caller's:
 * bytes on the wire (`max-bandwidth`), nanoseconds of CPU time (`cpu-budget`).
 */
#ifndef GODWIT_BASE_LIMIT_H
#define GODWIT_BASE_LIMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* All zero is a limit that is not set. */
struct limit {
    _Atomic uint64_t rate;     /* units/s; 0: no limit; may change while running */
    _Atomic int64_t next_free; /* clock_now() at which everything that was let through has drained */
    _Atomic bool off;          /* set when the migration ends, so that nobody sleeps on */
    int64_t burst;             /* ns that the bucket may run ahead of the clock; 0: 5 ms. Set before threads start */
};

/* Ends the waits of everybody who waits at another rate, and forgets what was booked. */
void limit_set(struct limit *l, uint64_t rate);
/* Lifts the limit for good and ends all waits within 10 ms. */
void limit_lift(struct limit *l);
/* Books `amount` units, and waits until what was booked before has drained. Callable from all threads. */
void limit_wait(struct limit *l, uint64_t amount);

#endif
