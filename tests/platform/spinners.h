/* SPDX-License-Identifier: Apache-2.0 */
/* A process whose threads do nothing but count: what the vCPUs of a busy guest look like from outside. */
#ifndef GODWIT_TESTS_PLATFORM_SPINNERS_H
#define GODWIT_TESTS_PLATFORM_SPINNERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SPINNERS_MOST 4

struct spinners_shared {
    pid_t tids[SPINNERS_MOST];
    atomic_uint ready;
    atomic_bool end[SPINNERS_MOST];
    _Atomic uint64_t work[SPINNERS_MOST];
    _Atomic int64_t cpu[SPINNERS_MOST]; /* ns of CPU time behind that work */

    atomic_uint plain[SPINNERS_MOST];  /* SIGUSR1 received */
    atomic_uint queued[SPINNERS_MOST]; /* SIGRTMIN received */
    atomic_uint disordered;            /* of these, how many did not carry the next number */
    unsigned sent[SPINNERS_MOST];      /* by spinners_queue() */
    _Atomic int sleep_ms;              /* not 0: thread 1 sleeps so long in a vfork(), then makes it 0 */
};

struct spinners {
    pid_t pid;
    unsigned count;
    struct spinners_shared *shared;
};

/* Returns when all threads count. The main thread sleeps and is none of them. */
void spinners_start(struct spinners *s, unsigned count);
void spinners_end(struct spinners *s);
/* After a test that ended the process itself. */
void spinners_forget(struct spinners *s);

/* Sum over the threads. */
uint64_t spinners_work(const struct spinners *s);
/* Waits; the work done meanwhile as a share of what as many free CPUs would have done. */
double spinners_share(const struct spinners *s, int64_t ns);

/* Whether the threads have no runtime of a sanitizer's in the way: ThreadSanitizer's loses queued signals of one number
 * by itself, and makes a fork() of a vfork(). */
#ifdef __SANITIZE_THREAD__
#define SPINNERS_NATIVE false
#else
#define SPINNERS_NATIVE true
#endif

/* Sends `count` SIGRTMIN with running numbers to a thread; returns `count`. Waits where the queue is full. */
unsigned spinners_queue(struct spinners *s, unsigned thread, unsigned count);
/* How many of these arrived, all threads. */
unsigned spinners_received(const struct spinners *s);

/* The thread ends; returns when it is gone. */
void spinners_let_end(const struct spinners *s, unsigned thread);

#endif
