/* SPDX-License-Identifier: Apache-2.0 */
/* Cards (processes) and batches for the accelerator tests. */
#ifndef GODWIT_TESTS_UNIT_ACCEL_SUPPORT_H
#define GODWIT_TESTS_UNIT_ACCEL_SUPPORT_H

#include "accel/accel.h"
#include "accel/emulated_protocol.h"
#include "support.h"

#include <sys/types.h>

#define MAX_JOB ((size_t)256 << 10)

/* An emulated-accel process at `socket` (a path in the test's directory). */
struct card {
    pid_t pid;
    int input; /* its stdin: it ends when this is closed */
    char socket[96];
    char device[128]; /* "emulated:SOCKET" */
};

/* `options`: more arguments, separated by blanks; NULL for none. */
void card_start(struct card *card, const char *directory, const char *name, const char *options);
void card_stop(struct card *card);
/* Tells a running card of a fault, `from` jobs from now. */
void card_fault(const struct card *card, enum emulated_fault kind, uint64_t from, uint64_t count);

/* A job with data of its own. */
struct batch {
    struct accel_job job;
    struct accel *accel;
    _Atomic int done; /* how often done() was called */
    uint8_t *data;
};

/* Data of that size that shrinks to about the half, in memory of `a`. */
void batch_make(struct batch *b, struct accel *a, size_t size, uint64_t seed);
/* The same the other way: such data, compressed in software, is to be decompressed. */
void batch_make_packed(struct batch *b, struct accel *a, size_t size, uint64_t seed);
/* Submits, waiting for room as long as it takes: what accel_submit() said. */
int batch_submit(struct batch *b);
void batch_wait(struct batch *b);
/* Submits, waits, and returns how it ended. */
enum accel_status batch_run(struct batch *b);
/* Whether the result is the data, or becomes it again. */
bool batch_is_right(const struct batch *b);
/* Fails the test unless it ended well; then releases it. */
void batch_assert_right(struct batch *b);

/* What changed() was told. */
struct witness {
    _Atomic unsigned seen[4]; /* by enum accel_health */
    _Atomic unsigned last;
};
void witness_changed(void *opaque, unsigned device, enum accel_health health, const char *why);

/* Opens with short times; the witness may be NULL. Fails the test when it cannot. */
struct accel *accel_for(const char *devices, unsigned instances, int64_t timeout_ns, struct witness *witness);
struct accel_counters counters_of(struct accel *a, unsigned device);

/* A loop that keeps `width` jobs at the devices until it is stopped, from within done(). */
struct pump {
    struct accel *accel;
    struct batch batch[128];
    unsigned width;
    _Atomic bool stop;
    _Atomic uint64_t bytes; /* done */
    _Atomic unsigned running;
};
void pump_start(struct pump *p, struct accel *a, unsigned width, size_t size);
void pump_stop(struct pump *p);

#endif
