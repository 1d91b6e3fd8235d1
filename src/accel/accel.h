/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accelerators: devices that compress and decompress batches while the engine does something else (seeds.md A2 to A4).
 *
 * One migration has one `struct accel`: the devices it was told to use, each with one or several instances (queues). A
 * worker thread fills memory that came from accel_alloc(), submits it as a job and goes on. A thread of accel's calls
 * done() when the device has answered, or when it is clear that it will not. No device is trusted: it may hang, reset,
 * lie about sizes or write rubbish into its own output memory, and all that this costs is the time of some batches,
 * which the caller then works on itself. docs/accelerators.md argues why.
 *
 * All functions but accel_open() and accel_close() may be called from any thread, and all but these and accel_run()
 * from done().
 */
#ifndef GODWIT_ACCEL_ACCEL_H
#define GODWIT_ACCEL_ACCEL_H

#include "base/error.h"
#include "codec/codec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct accel;
struct accel_slot;

enum accel_health {
    ACCEL_STARTING, /* it was asked to start and has not answered yet */
    ACCEL_READY,
    ACCEL_WAITING, /* it failed, and is tried again after a while */
    ACCEL_LOST,    /* it failed too often: not used any more in this migration */
};
const char *accel_health_name(enum accel_health health);

struct accel_config {
    const char *devices; /* "qat" or "emulated:/path.sock"; several separated by commas */
    unsigned instances;  /* queues on each device; 0: 1. A device may grant fewer. */
    int64_t timeout_ns;  /* a job that has no answer for so long has failed; 0: 2 s */
    int64_t retry_ns;    /* first wait before a failed device is tried again, doubled each time; 0: 100 ms */
    size_t max_job;      /* bytes of the largest job */
    bool allow_software; /* use a device whose library found no hardware; else it is refused */
    size_t memory;       /* what accel_alloc() can give out altogether: address space, not memory; 0: 1 GiB */

    /* NULL, or told when the health of a device has changed, with the cause as one line. From a thread of accel's,
     * which holds no lock. */
    void (*changed)(void *opaque, unsigned device, enum accel_health health, const char *why);
    void *opaque;
};

enum accel_status {
    ACCEL_OK,
    ACCEL_TOO_BIG, /* the result would be larger than `capacity`; the device is fine */
    ACCEL_FAILED,  /* the device could not; when it decompressed: or the payload is not what its sender said */
    ACCEL_TIMEOUT, /* no answer in time; the device is being reset */
    ACCEL_RESET,   /* the device was reset or went away while it had the job */
    ACCEL_CLOSED,  /* accel_close() was called meanwhile */
};
const char *accel_status_name(enum accel_status status);

enum accel_work { ACCEL_COMPRESS, ACCEL_DECOMPRESS };

/*
 * Owned by the caller, who leaves it alone between a successful accel_submit() and done().
 *
 * ACCEL_DECOMPRESS yields exactly `capacity` bytes or ends with ACCEL_FAILED. A device cannot tell a damaged payload
 * from a fault of its own, so a failed decompression is counted but never held against the device: else a peer that
 * lies could take our devices away. Who decodes such a payload in software after all knows whose fault it was, and says
 * so by accel_blame(). So does who finds that a result is not what the sender's digest says.
 */
struct accel_job {
    enum accel_work work;
    const uint8_t *in;   /* in memory of accel_alloc(): the device reads from there */
    size_t size;         /* up to max_job */
    size_t capacity;     /* compressing: the largest result that is of use; what is beyond max_job is taken as max_job.
                            Decompressing: the size of the result, up to max_job */
    int level;           /* of compression */
    enum codec_id codec; /* decompressing, in: CODEC_DEFLATE. Compressing, out: what the result is */
    void (*done)(struct accel_job *job); /* exactly once for each job that was accepted, from a thread of accel's */
    void *opaque;

    /* Valid in done() and after it. */
    enum accel_status status;
    const uint8_t *out; /* the result, only with ACCEL_OK, until accel_release(). The device may still write to it. */
    size_t out_size;    /* 1..capacity; decompressing: capacity */
    unsigned device;    /* which one had it: an index as in accel_counters() */

    /* accel's own */
    struct accel_slot *slot;
    struct accel_job *next;
};

struct accel_counters {
    char name[128]; /* as in accel_config.devices */
    enum accel_health health;
    bool software; /* the library behind the device has no hardware and works on this host's CPUs */
    unsigned instances, in_flight;
    uint64_t batches, in, out; /* compressions that ended with ACCEL_OK; their bytes */
    struct {
        uint64_t batches, in, out; /* decompressions; `in` are the compressed bytes */
    } decompressed;
    uint64_t too_big, failed, timeouts, resets, blamed; /* of both kinds */
    uint64_t quarantined; /* bytes of address space that a former incarnation may still write to */
};

/* Starts all devices and waits until they are ready. NULL when one of them is unknown, was not built in or does not
 * answer: the error names it and says what to do. */
struct accel *accel_open(const struct accel_config *config, struct error *err);
/* Every job in flight ends with ACCEL_CLOSED first. What accel_alloc() gave and all results are gone afterwards.
 * NULL is allowed. */
void accel_close(struct accel *a);

/* Page-aligned memory that all devices can read and none can write; zeros. NULL when `memory` is used up. */
void *accel_alloc(struct accel *a, size_t size);

/* 1: accepted, done() will be called, perhaps before this returns. 0: all queues are full. -1: no device is ready now,
 * or the job is not one that a device can take (its memory, its size). */
int accel_submit(struct accel *a, struct accel_job *job);
/* Waits until a queue may have room, and at most so long. True: try again. False: time is over, or no device is ready.
 */
bool accel_wait_room(struct accel *a, int64_t timeout_ns);
/* The caller has read out[]. Nothing happens for a job without a result. */
void accel_release(struct accel *a, struct accel_job *job);

/* For a thread that has nothing else to do meanwhile: submits, waiting up to `timeout_ns` for room, and waits until the
 * job has ended, which the devices' own time-out bounds. 0: it has; what is valid in done() is valid now. -1: no device
 * could take it. The job's `done` and `opaque` are not used, and the same afterwards. Not from done(). Threads that are
 * in here must have come back before accel_close(). */
int accel_run(struct accel *a, struct accel_job *job, int64_t timeout_ns);

/* What this device made of a batch was wrong (a digest said so), or it failed on a payload that is fine. A device that
 * is blamed ACCEL_MAX_BLAMES times is lost. */
#define ACCEL_MAX_BLAMES 3
void accel_blame(struct accel *a, unsigned device);

/* Fills up to `max` and returns how many devices there are. */
unsigned accel_counters(struct accel *a, struct accel_counters *to, unsigned max);

#endif
