/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of accel's own share. Back ends include unit.h only.
 *
 *   accel.c, submit.c, run.c   what accel.h promises
 *             │    thread.c    waits for devices and the clock, calls the caller back
 *             ▼        ▼
 *           driver.c           tells device.c what happened, and does what it asks for
 *        ┌──────┼───────┬─────────────┐
 *        ▼      ▼       ▼             ▼
 *   device.c  queue.c  unit.c ◄── emulated.c, qatzip.c (called through accel_ops)
 *
 * device.c decides and does nothing, queue.c and unit.c are data.
 */
#ifndef GODWIT_ACCEL_INTERNAL_H
#define GODWIT_ACCEL_INTERNAL_H

#include "accel/device.h"
#include "accel/unit.h"

#include <poll.h>
#include <pthread.h>

struct accel_device {
    unsigned index;
    const struct accel_ops *ops;
    char *path; /* behind "kind:", or NULL */
    struct device_state state;
    struct accel_unit *unit;        /* the newest; READY and STARTING: the one in use */
    struct accel_counters counters; /* without what is in `state` */
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
    struct device_times times;  /* constant */
    struct accel_ground ground; /* constant from the first unit on */
    unsigned devices;           /* constant */
    int wake_fd;                /* an eventfd: makes the thread look again */
    pthread_t thread;
    struct pollfd *fds; /* the thread's */

    pthread_mutex_t lock;
    pthread_cond_t room; /* with lock: a queue has room, or a device's health has changed */
    bool closing;
    size_t input_used;
    struct accel_device *device;
    unsigned last;                               /* device that got the last job */
    int64_t armed;                               /* the thread looks again by then; INT64_MAX: when it is woken */
    struct accel_job *finished, **finished_tail; /* done() is to be called */
    struct accel_notice *notices, **notices_tail;
};

/* driver.c; all but driver_open() and driver_free() with the lock held */
/* Starts a device for the first time and waits until it is ready. Before the thread is there. */
int driver_open(struct accel *a, struct accel_device *d, struct error *err);
/* Hands the job to the device. 1: it was taken. 0: not now. -1: the device has failed. */
int driver_submit(struct accel *a, struct accel_device *d, struct accel_slot *slot, struct accel_job *job);
/* The unit's descriptor is readable. */
void driver_hear(struct accel *a, struct accel_device *d);
/* Does what is due by `now`. Returns when there is something to do next, or NEVER. */
int64_t driver_tick(struct accel *a, struct accel_device *d, int64_t now);
void driver_blame(struct accel *a, struct accel_device *d);
/* Its jobs end; it is not used or started from here on. */
void driver_close(struct accel *a, struct accel_device *d);
/* All units, after the thread has ended. False: the device may still use input or output memory. */
bool driver_free(struct accel_device *d, int64_t until);
/* Makes the thread look again. */
void driver_wake(struct accel *a);

/* queue.c; with the lock held */
/* Whether a device is there that is for such jobs; NULL: any. */
bool queue_exists(const struct accel *a, const struct accel_job *job);
/* The slot on the least loaded queue of all, and its device; NULL: all that suit are full. */
struct accel_slot *queue_choose(const struct accel *a, const struct accel_job *job, struct accel_device **device);
/* The job is in the slot, for the device to see. */
void queue_put(const struct accel *a, struct accel_slot *slot, struct accel_job *job, int64_t deadline);
/* The device has taken it. */
void queue_taken(struct accel *a, struct accel_device *d, struct accel_slot *slot);
/* The device has not: its unit is full until its next job ends. */
void queue_take_back(struct accel_slot *slot);
/* Ends a job that the device had: the slot is free, or held with ACCEL_OK. done() will be called. */
void queue_end(struct accel *a, struct accel_device *d, struct accel_slot *slot, enum accel_status status);

/* submit.c; takes the lock itself */
/* Waits until a device that takes such a job (NULL: any) may have room. False: `until` has passed, or there is none. */
bool submit_wait_room(struct accel *a, const struct accel_job *job, int64_t until);

/* thread.c */
void *accel_thread(void *opaque);

#endif
