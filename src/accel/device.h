/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The health of a device, as a pure state machine: what happened goes in, what must be done comes out. It knows neither
 * of units nor of jobs, threads or clocks; driver.c tells it what happens and does what it asks for, and nobody else.
 *
 *              ┌───── OVERDUE, FAILED, it fails every job: RETIRE, TELL ─────┐
 *              ▼                                                             │
 *   WAITING ──TICK: START──► STARTING ──STARTED or HEARD, ready: TELL──► READY
 *      ▲                         │
 *      └── TICK, FAILED: RETIRE ─┘
 *
 * From any state to LOST: too many failures or blames (RETIRE, TELL), CLOSED (CANCEL). From there nowhere.
 */
#ifndef GODWIT_ACCEL_DEVICE_H
#define GODWIT_ACCEL_DEVICE_H

#include "accel/accel.h"

/* A device that fails so often without a job done in between, or so often altogether, is lost. The second bound also
 * bounds the memory in quarantine. */
#define DEVICE_MAX_FAILURES 6
#define DEVICE_MAX_RESETS 16
/* A device that says so often in a row that it failed is reset. */
#define DEVICE_MAX_FAILED_IN_A_ROW 4
/* The wait before it is tried again is doubled up to this; ns. */
#define DEVICE_MAX_WAIT INT64_C(10000000000)

#define NEVER INT64_MAX

/* Set by device_step() only. All zeros but for `health`, WAITING: a device that was never started, and is due. */
struct device_state {
    enum accel_health health;
    int64_t until;     /* STARTING: the start has failed then. WAITING: it is tried again then. */
    unsigned failures; /* of the device, without a job done in between */
    unsigned failing;  /* compressions with ACCEL_FAILED, one after the other */
    unsigned resets;   /* how often it failed when it was READY */
    unsigned blamed;
};

struct device_times {
    int64_t timeout_ns, retry_ns; /* as in accel_config, with the defaults filled in */
};

enum device_event_kind {
    DEVICE_TICK,     /* time has passed, or something else may have changed it: `due` */
    DEVICE_STARTED,  /* START was done: `ready` when that was all */
    DEVICE_HEARD,    /* what the unit said was in order: `ready`. After the ANSWERED that it consisted of. */
    DEVICE_TAKEN,    /* the unit took a job: `due` */
    DEVICE_ANSWERED, /* a job: `status` and `work` */
    DEVICE_OVERDUE,  /* jobs had no answer in time: `why` */
    DEVICE_FAILED,   /* it could not be started, is gone, or said what it must not say: `why` */
    DEVICE_BLAMED,   /* what it made of a batch was wrong */
    DEVICE_CLOSED,   /* accel_close() */
};
#define DEVICE_EVENTS (DEVICE_CLOSED + 1)

struct device_event {
    enum device_event_kind kind;
    int64_t now;
    int64_t due; /* when the next of the jobs in flight is overdue; NEVER without one */
    bool ready;
    enum accel_status status;
    enum accel_work work;
    const char *why; /* one line */
};

/* What is to be done, in this order. */
enum {
    DEVICE_EXPIRE = 1, /* the jobs that are overdue end with ACCEL_TIMEOUT */
    DEVICE_RETIRE = 2, /* the unit is given up; its jobs end with ACCEL_RESET */
    DEVICE_CANCEL = 4, /* its jobs end with ACCEL_CLOSED */
    DEVICE_TELL = 8,   /* the health has changed, because of `why` */
    DEVICE_START = 16, /* a new unit is started; STARTED or FAILED must be the next event */
};

struct device_actions {
    unsigned what;   /* of the above */
    int64_t wake_at; /* a TICK is wanted by then. NEVER: for nothing that this event brought */
    const char *why; /* with TELL: the event's, or a constant */
};

/* An event that makes no sense in this state changes nothing. */
struct device_actions device_step(struct device_state *s, const struct device_times *times,
                                  const struct device_event *e);

#endif
