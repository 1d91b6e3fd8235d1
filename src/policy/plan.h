/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which means a migration uses on this host, planned from what the host can spare (rows B1, B2): threads, CPU, digest
 * table, delta cache, buffers. A pure function from measurements and the plan before to the next plan, so that it is
 * tested without a host; it is called a few times a second, on either side.
 *
 * CPU. The guest's vCPU threads come first: the engine plans with the CPUs that are idle and those that it uses itself.
 * That is blind to a vCPU that waits for a CPU of ours, so there is a ceiling as well: halved, once a second at most,
 * while tasks of the host wait for CPUs (pressure), and raised step by step when they do not.
 *
 * Memory. Buffers, without which nothing goes; then 16 bytes of digest for each page, since nothing saves more per
 * byte; then the delta cache.
 *
 * A plan does not flap: what is measured is smoothed, faster down than up, and a new share is only taken when it is
 * clearly another one.
 */
#ifndef GODWIT_POLICY_PLAN_H
#define GODWIT_POLICY_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#define PLAN_AUTO 0
#define PLAN_DELTA_AUTO (-1)
#define PLAN_MAX_THREADS 16 /* that the plan takes by itself */

struct plan_input {
    int64_t now; /* ns, monotonic */

    /* host/load.h; negative: unknown */
    double cpus, cpu_idle, cpu_own;       /* CPUs */
    double cpu_pressure, memory_pressure; /* percent of the time */
    uint64_t memory_available;            /* bytes */
    uint64_t memory_own;                  /* bytes that the delta cache holds, and memory_available lacks */

    /* What the user said. It holds whatever the host has, within the budgets. */
    unsigned cpu_budget;                          /* percent of one CPU; 0: auto */
    uint64_t memory_budget;                       /* bytes; 0: auto */
    int64_t compress_threads, decompress_threads; /* PLAN_AUTO or a number */
    int64_t delta_cache;                          /* PLAN_DELTA_AUTO, 0: off, or bytes */

    uint64_t guest_bytes;     /* RAM of the guest */
    unsigned channels;        /* at least 1 */
    unsigned pages_per_batch; /* of 4 KiB */
    bool link_bound;          /* the link and not the CPU was what the migration waited for lately */
};

struct plan {
    unsigned compress_threads, decompress_threads; /* at least 1: a migration must end */
    double cpu_share;      /* CPUs that the engine may use, all its threads together; more than 0 */
    uint64_t delta_cache;  /* bytes; 0: off */
    uint64_t digest_bytes; /* of table, may be less than the whole guest needs; 0: off */
    unsigned buffers;   /* batches that may be in memory at a time, each of plan_buffer_bytes(); at least `channels` */
    const char *reason; /* why it is not the plan before; static text */

    /* What the next plan continues from; of no interest to others. */
    struct plan_memory {
        int64_t at;
        int64_t backed_off;     /* when the ceiling was last halved */
        int64_t changed;        /* when cpu_share last was another one */
        double available;       /* CPUs, smoothed */
        bool measured;          /* they are; else taken for granted */
        double ceiling;         /* CPUs */
        double pressure;        /* cpu_pressure, smoothed; negative: not known */
        bool calm;              /* the guest's threads do not wait for them */
        uint64_t memory_budget; /* bytes */
        bool short_of_memory;
        bool link_seen;     /* the link was the bottleneck, */
        int64_t link_bound; /* then */
    } state;
};

/* Bytes that one batch takes: as it was read, and as it is sent. */
uint64_t plan_buffer_bytes(unsigned pages_per_batch);

/*
 * The next plan; `previous` is NULL for the first. What always holds: cpu_share <= cpus, cpu_share <= cpu_budget / 100,
 * threads <= cpu_budget / 100 rounded up, and buffers, digests and delta cache together <= memory_budget, except that
 * there is always one buffer for each channel. Where the user's delta cache and the digests can't both be had, the
 * user's word counts for more.
 */
void plan_make(const struct plan_input *in, const struct plan *previous, struct plan *plan);

/* Whether anything differs that somebody must act on. */
bool plan_differs(const struct plan *a, const struct plan *b);

#endif
