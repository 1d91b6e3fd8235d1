/* SPDX-License-Identifier: Apache-2.0 */
/* Carries the VMM's device state from one descriptor to another until its end: as it is, or what a filter leaves of it.
 * One thread. */
#ifndef GODWIT_MIGRATE_RELAY_H
#define GODWIT_MIGRATE_RELAY_H

#include "base/error.h"
#include "vmm/filter.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct relay {
    int from, to;              /* owned by the relay once started */
    struct vmm_filter *filter; /* NULL: none. Owned like them; its counts stay readable until relay_stop() */
    pthread_t thread;
    bool started;
    int event_fd; /* readable when the relay has ended */
    _Atomic bool ended;
    _Atomic uint64_t bytes; /* that were handed on */
    struct error failure;   /* the thread's, until it is joined */
};

enum relay_way { RELAY_TO_WIRE, RELAY_FROM_WIRE };

/* Starts one between the VMM and a connection to the other host, of which it takes a copy: *vmm_end is what the VMM
 * writes into or reads from, the caller's to close. Takes over the filter (or NULL), also when it fails. */
int relay_open(struct relay *r, enum relay_way way, int wire, struct vmm_filter *filter, int *vmm_end,
               struct error *err);
/* Takes over both descriptors and the filter (or NULL). At the end of `from`, `to` is shut down for writing. */
int relay_start(struct relay *r, int from, int to, struct vmm_filter *filter, struct error *err);
/* Breaks a running relay off, joins it, closes the descriptors. Safe when it was never started. */
void relay_stop(struct relay *r);
/* Whether it ended since something could not be passed on: whoever writes into it fails then, and is not the cause. */
bool relay_broke(struct relay *r);
/* After the end: 0 when all of it went through, else -1 with the reason. */
int relay_result(struct relay *r, struct error *err);

#endif
