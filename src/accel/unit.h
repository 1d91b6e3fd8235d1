/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Units and their slots, and what a kind of device has to do with them.
 *
 * Each time a device is started or started again it gets a new *unit*, with output memory of its own. A unit that
 * failed is retired: it gets no more jobs, nothing that it says is heard, and its output memory stays mapped until
 * accel_close(), because a device that is out of control may go on writing to it. New jobs go to the new unit's memory.
 *
 *   start ──► (reap: unit_ready) ──► submit … reap: unit_result … ──► retire ──► finish
 *
 * All operations but `finish` are called with the accel's lock held, so they must not block; start, reap and retire
 * from accel_open() or its thread, submit and retire from any thread. Of the rest of accel a back end knows this header
 * only.
 */
#ifndef GODWIT_ACCEL_UNIT_H
#define GODWIT_ACCEL_UNIT_H

#include "accel/accel.h"
#include "accel/memory.h"

/* Bounds of what a device may ask for. */
#define ACCEL_MAX_INSTANCES 64
#define ACCEL_MAX_DEPTH 1024

/* ANSWERED: the device has, and the job has not ended yet. HELD: the result is there, and not released yet. */
enum slot_state { SLOT_FREE, SLOT_IN_FLIGHT, SLOT_ANSWERED, SLOT_HELD };

/* A place for one result. */
struct accel_slot {
    struct accel_unit *unit;
    unsigned index, instance;
    enum slot_state state;
    uint32_t serial;          /* another one for each job, so that an answer that comes twice is seen */
    struct accel_job *job;    /* while IN_FLIGHT and ANSWERED */
    enum accel_work work;     /* of the job */
    enum accel_status status; /* ANSWERED: how the job ends */
    struct accel_slot *next;  /* ANSWERED: the one that was answered after it */
    size_t offset;            /* of its memory in the unit's output memory */
    size_t capacity;          /* of the job */
    int64_t deadline;
};

/* What all units are given. Constant while there are any. */
struct accel_ground {
    struct accel_memory input; /* as all devices see it */
    size_t max_job;            /* as in accel_config, like the next two */
    bool allow_software;
    unsigned instances;
    size_t slot_size;
};

struct accel_unit {
    const struct accel_ground *ground;
    struct accel_unit *older; /* the one before it, retired */
    bool ready, retired;
    bool software;      /* as in accel_counters */
    bool full;          /* it did not take the last job; until its next answer */
    unsigned instances; /* wanted; after unit_ready(): granted */
    unsigned depth;     /* jobs that an instance takes at a time */
    unsigned slots;     /* all together, `instances` times the same number */
    struct accel_slot *slot;
    unsigned *in_flight;                          /* of each instance */
    struct accel_slot *answered, **answered_tail; /* in the order of the answers */
    struct accel_memory output;

    /* The back end's: */
    int fd; /* when it is readable, reap() has something to do; -1 without one */
    void *state;
};

/* What a device says about a job. Nothing in it has been checked. */
struct accel_result {
    uint32_t slot, serial;
    uint32_t status; /* ACCEL_OK, ACCEL_TOO_BIG or ACCEL_FAILED */
    uint32_t codec;
    uint64_t size;
};

struct accel_ops {
    const char *kind; /* the word in front of ':' in accel-devices */
    bool has_path;
    /* Begins to start: sets fd and state. The unit is ready when it calls unit_ready(), from here or from reap(). -1:
     * the unit is of no use, and neither retire() nor finish() will be called. */
    int (*start)(struct accel_unit *unit, const char *path, struct error *err);
    /* Whether such a job is one for this device; NULL: all are. */
    bool (*takes)(const struct accel_unit *unit, const struct accel_job *job);
    /* 1; 0 when it cannot take it just now; -1: the device is gone. */
    int (*submit)(struct accel_unit *unit, const struct accel_slot *slot, struct error *err);
    /* Reports everything that there is by unit_result(). -1: the device is gone, or said what it must not say. */
    int (*reap)(struct accel_unit *unit, struct error *err);
    /* Gives up: nothing of this unit may call unit_*() any more. Does not wait for the device. */
    void (*retire)(struct accel_unit *unit);
    /* After retire, at accel_close(): frees what is the back end's. May wait until `until` for the device to stop.
     * False: it did not, and may read input and write output for ever: they must stay. */
    bool (*finish)(struct accel_unit *unit, int64_t until);
};

extern const struct accel_ops accel_emulated;
extern const struct accel_ops accel_qatzip; /* only where meson found QATzip */

/* The device is ready and takes `depth` jobs on each of `instances`: makes the slots and their memory. `software`: see
 * accel_counters. -1: the numbers are out of bounds, or no memory. */
int unit_ready(struct accel_unit *unit, unsigned instances, unsigned depth, bool software, struct error *err);
/* An answer: the job has its result, and waits in `answered` for its end. -1: no working device would have given it,
 * whatever the payload. */
int unit_result(struct accel_unit *unit, const struct accel_result *result, struct error *err);
/* The part of unit_result() that decides whether an answer can be. Changes nothing. */
int unit_check_result(const struct accel_unit *unit, const struct accel_result *result, struct error *err);
/* What such an answer means for its job. Of a decompression everything but the right size is a failure: a larger result
 * and a smaller one both mean that the payload is not what its sender said. */
enum accel_status unit_status(const struct accel_slot *slot, const struct accel_result *result);

/* For who drives the units. */
/* A fresh one that has not been started; NULL without memory. */
struct accel_unit *unit_new(const struct accel_ground *ground);
/* After finish(). */
void unit_free(struct accel_unit *unit);
/* The slot that was answered first, off the list; NULL: all were taken. */
struct accel_slot *unit_take_answered(struct accel_unit *unit);
/* How many jobs should have been answered by `now`. `due`: when that will be true of the next of the others, or
 * INT64_MAX. */
unsigned unit_overdue(const struct accel_unit *unit, int64_t now, int64_t *due);

static inline uint8_t *slot_output(const struct accel_slot *slot) {
    return slot->unit->output.base + slot->offset;
}

#endif
