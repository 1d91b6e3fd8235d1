/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of accel's own share. Back ends include device.h only. */
#ifndef GODWIT_ACCEL_INTERNAL_H
#define GODWIT_ACCEL_INTERNAL_H

#include "accel/device.h"

#include <poll.h>
#include <pthread.h>

/* A device that fails so often without a job done in between, or so often altogether, is lost. The second bound also
 * bounds the memory in quarantine. */
#define MAX_FAILURES 6
#define MAX_RESETS 16
/* A device that says so often in a row that it failed is reset. */
#define MAX_FAILED_IN_A_ROW 4

struct accel_device {
    unsigned index;
    const struct accel_ops *ops;
    char *path; /* behind "kind:", or NULL */
    enum accel_health health;
    struct accel_unit *unit; /* the newest; READY and STARTING: the one in use */
    int64_t until;           /* STARTING: the start has failed then. WAITING: it is tried again then. */
    unsigned failures;       /* of the device, without a job done in between */
    unsigned failing;        /* jobs with ACCEL_FAILED, one after the other */
    struct accel_counters counters;
};

/* A change of health that has not been told yet. */
struct accel_notice {
    struct accel_notice *next;
    unsigned device;
    enum accel_health health;
    char why[256];
};

/*
 * `lock` guards everything below it, and all units. done() and changed() are called without it, by `thread` only. It is
 * never held together with another lock of ours, but for a back end's own, which is taken inside it.
 */
struct accel {
    struct accel_config config; /* with the defaults filled in; constant */
    size_t slot_size;           /* constant */
    unsigned devices;           /* constant */
    int wake_fd;                /* an eventfd: makes the thread look again */
    pthread_t thread;
    struct pollfd *fds; /* the thread's */

    pthread_mutex_t lock;
    pthread_cond_t room; /* with lock: a queue has room, or a device's health has changed */
    bool closing;
    struct accel_memory input;
    size_t input_used;
    struct accel_device *device;
    unsigned last;                               /* device that got the last job */
    int64_t armed;                               /* the thread looks again by then; INT64_MAX: when it is woken */
    struct accel_job *finished, **finished_tail; /* done() is to be called */
    struct accel_notice *notices, **notices_tail;
};

#define NEVER INT64_MAX

void accel_wake(struct accel *a);

/* device.c; all with the lock held */
/* Begins to start the device: STARTING or READY, or -1. */
int device_start(struct accel *a, struct accel_device *d, struct error *err);
/* The unit failed: its jobs end with ACCEL_RESET, and the device will be started again or is lost. */
void device_fail(struct accel *a, struct accel_device *d, const char *why);
/* Never use it again. */
void device_lose(struct accel *a, struct accel_device *d, const char *why);
/* Deadlines that have passed and starts that are due. Returns when there is something to do next. */
int64_t device_timers(struct accel *a, struct accel_device *d, int64_t now);
void device_note(struct accel *a, const struct accel_device *d, const char *why);

/* queue.c; with the lock held */
/* Ends a job that is in flight: the slot is free, or held with ACCEL_OK. */
void queue_end(struct accel *a, struct accel_slot *slot, enum accel_status status);
/* Waits until a device that takes such a job (NULL: any) may have room. False: `until` has passed, or there is none.
 * Takes the lock itself. */
bool queue_wait_room(struct accel *a, const struct accel_job *job, int64_t until);

/* thread.c */
void *accel_thread(void *opaque);

#endif
