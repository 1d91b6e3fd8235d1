/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host has to spare, for the plan of a migration (policy/plan.h): sampled every few hundred ms from /proc and
 * from our control groups. What the host does not say is unknown, and never an error.
 */
#ifndef GODWIT_HOST_LOAD_H
#define GODWIT_HOST_LOAD_H

#include "base/error.h"

#include <stdint.h>

#define HOST_UNKNOWN (-1.0)

struct host_load {
    double cpus;         /* that we may use: those of our affinity that are online, or the least quota; more than 0 */
    double cpu_idle;     /* CPUs, of these, that nobody uses; HOST_UNKNOWN in the first sample */
    double cpu_own;      /* CPUs that this process uses; HOST_UNKNOWN in the first sample */
    double cpu_pressure; /* percent of the interval in which some task of the host waited for a CPU; HOST_UNKNOWN */
    double memory_pressure;    /* the same for memory */
    double memory_stall;       /* percent of the interval in which all tasks waited for memory; HOST_UNKNOWN */
    uint64_t memory_total;     /* bytes; 0: unknown */
    uint64_t memory_available; /* bytes that can be had without swapping, and within our groups' limits; 0: unknown */
};

struct host_meter;

/* Opens the files below `root` ("": this host; tests invent others). Fails when there is no memory. The caller closes.
 */
struct host_meter *host_load_open(const char *root, struct error *err);
void host_load_close(struct host_meter *m);

/*
 * The load since the last sample. `now` is clock_now(), `own_cpu` clock_cpu(). The first sample has what needs no
 * interval, and the kernel's 10 s means of pressure. /proc/stat counts in ticks of 10 ms, so a sample less than 50 ms
 * after the last one repeats it. One thread at a time.
 */
void host_load_sample(struct host_meter *m, int64_t now, int64_t own_cpu, struct host_load *load);

#endif
