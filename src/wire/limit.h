/* SPDX-License-Identifier: Apache-2.0 */
/* One bandwidth limit over all connections of a migration (`max-bandwidth`): a leaky bucket on a shared clock. */
#ifndef GODWIT_WIRE_LIMIT_H
#define GODWIT_WIRE_LIMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct limit {
    _Atomic uint64_t rate;     /* bytes/s; 0: no limit; may change while running */
    _Atomic int64_t next_free; /* clock_now() at which everything that was let through has drained */
    _Atomic bool off;          /* set when the migration ends, so that nobody sleeps on */
};

void limit_set(struct limit *l, uint64_t rate);
/* Lifts the limit for good and ends all waits within 10 ms. */
void limit_lift(struct limit *l);
/* Waits until `bytes` may go. Callable from all threads. */
void limit_wait(struct limit *l, size_t bytes);

#endif
