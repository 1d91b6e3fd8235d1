/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's CPUs: threads that write guest memory by the plan and check, before every rewrite, that the page still
 * holds what they wrote last. Each thread has a part of the guest pages of its own, so that no page has two writers.
 *
 * Stopping is exact: a thread looks at the flag before each page, and dirty_stop() returns when all are parked.
 */
#ifndef STUNT_DIRTY_H
#define STUNT_DIRTY_H

#include "load.h"
#include "ram.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

struct dirty;

struct dirty_thread {
    struct dirty *dirty;
    unsigned index;
    pthread_t thread;
    pid_t tid; /* what query-cpus-fast shows */
    /* The thread's own while it runs; anyone's who stopped it. */
    struct plan plan;
    uint64_t first, pages;   /* guest pages [first, first + pages) are written by this thread; none for pages == 0 */
    uint8_t *versions;       /* of each of them, 0 for never written; owned */
    _Atomic uint64_t stamps; /* a copy of plan.stamps for those who look while it runs */
};

struct dirty {
    const struct memory *memory;
    struct load load;
    struct dirty_thread *threads; /* one a CPU; those beyond load.threads never write */
    unsigned count;
    /* The gate. `lock` is taken last, by anybody, for a moment. */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* run or quit changed, or a thread was parked or came to life */
    atomic_bool run;        /* written under `lock`, read by the threads before every page without it */
    bool quit;
    unsigned parked;
};

/* Starts `cpus` threads, parked. load->threads must not be more than `cpus`. */
int dirty_open(struct dirty *dirty, const struct memory *memory, const struct load *load, unsigned cpus,
               struct error *err);
void dirty_close(struct dirty *dirty);

void dirty_start(struct dirty *dirty);
/* Returns when no thread writes any more. */
void dirty_stop(struct dirty *dirty);
bool dirty_running(struct dirty *dirty);
/* Pages written since the guest was born, at whatever host. */
uint64_t dirty_stamps(struct dirty *dirty);

/* The next three only while stopped. */
void dirty_save(const struct dirty *dirty, struct blob *blob);
int dirty_restore(struct dirty *dirty, struct blob *blob, struct error *err);
/* Looks at every page that was ever written; fails with the first that is wrong. */
int dirty_check(const struct dirty *dirty, struct error *err);

#endif
