/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of a migration, for --json, for query-migrate and for the progress line. The main thread writes it, the
 * control socket's thread reads it.
 */
#ifndef GODWIT_MIGRATE_STATUS_H
#define GODWIT_MIGRATE_STATUS_H

#include "base/error.h"
#include "policy/plan.h"
#include "ram/counters.h"

#include <jansson.h>
#include <pthread.h>
#include <stdint.h>

#define STATUS_UNKNOWN (-1) /* a time that was not reached */

struct status_times {                       /* ns; STATUS_UNKNOWN until reached */
    int64_t setup;                          /* start to the first pass */
    int64_t total;                          /* start to the end */
    int64_t expected;                       /* downtime, by the last forecast */
    int64_t downtime;                       /* the guest's stop to its run at the destination */
    int64_t stop, final, device, load, run; /* parts of the switchover */
};

/* What is reported, and only that: nothing is decided by it. */
struct status {
    pthread_mutex_t lock; /* owns all that follows */
    const char *state;    /* QEMU's MigrationStatus, or "in-doubt" */
    const char *stage;
    int64_t started; /* clock_now() */
    struct status_times times;
    struct status_sent {
        uint64_t ram_total;    /* bytes of guest memory */
        uint64_t remaining;    /* bytes that are dirty and not yet sent */
        uint64_t deferred;     /* pages that waited, each once a pass */
        uint64_t transferred;  /* bytes on the wire, all connections */
        uint64_t device_state; /* bytes of it */
        uint32_t passes;
        uint64_t dirty_rate; /* pages/s in the last pass */
        double mbps;         /* 10^6 bits/s on the wire in the last pass */
    } sent;
    int64_t attach_stop; /* ns that the guest's VMM stood still while we attached */
    const char *tracker;
    struct status_way { /* in which the device state goes */
        const char *name;
        char why[600];
    } way;
    struct status_throttle {
        const char *policy;
        unsigned percent, most; /* in force; at most, ever */
        int64_t held;           /* ns that the guest's vCPUs were held, the mean of them */
    } throttle;
    bool planned;
    struct plan plan; /* in force, when `planned` */
    struct error error;
    const char *error_stage;

    const struct ram_counters *counters; /* atomic by itself; NULL at the destination */
};

void status_init(struct status *s);
void status_set_state(struct status *s, const char *state, const char *stage);
/* Sets one number of it under the lock. */
void status_note(struct status *s, uint64_t *field, uint64_t value);
void status_note_time(struct status *s, int64_t *field, int64_t value);
/* `name` stays the caller's, `why` is copied. */
void status_note_way(struct status *s, const char *name, const char *why);
/* The whole object of the contract (--json), with this process's CPU time and peak memory. A new reference. */
json_t *status_json(struct status *s);
/* The same without what is only known at the end: the answer to query-migrate. */
json_t *status_query(struct status *s);

#endif
