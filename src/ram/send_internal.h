/* SPDX-License-Identifier: Apache-2.0 */
/* Between send.c, the main thread's side, and send_thread.c, what the threads do; for nobody else. */
#ifndef GODWIT_RAM_SEND_INTERNAL_H
#define GODWIT_RAM_SEND_INTERNAL_H

#include "ram/encode.h"
#include "ram/gather.h"
#include "ram/offload.h"
#include "ram/pass.h"
#include "ram/send.h"
#include "ram/shelf.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

struct send_channel {
    struct conn *conn;
    bool taken; /* a thread writes to it */
    bool ended; /* the running pass, on it */
    uint32_t pages_in_pass;
};

struct send_thread {
    struct ram_send *send;
    unsigned index;
    _Atomic pid_t tid; /* 0: it has not begun */
    pthread_t thread;
    struct encoder encoder;
    batch_heads head;
};

struct ram_send {
    struct ram *ram;
    struct ram_send_config config;
    struct pass pass;
    struct gather gather;
    struct offload offload;
    struct choice choice;
    struct ram_counters counters;
    int event_fd;
    struct send_thread *threads;
    unsigned thread_count, started;
    unsigned max_batches; /* that are not on shelves */
    unsigned max_shelves;
    unsigned kinds; /* batches of a shelf */
    _Atomic bool urgent;

    pthread_mutex_t lock; /* owns what follows */
    pthread_cond_t work;  /* an idle thread has something to do */
    uint32_t number;      /* of the running or last pass */
    bool running, ending;
    struct error failure;
    unsigned idle, gathering, max_gathering, batches, shelves;
    unsigned offloaded; /* batches that accelerators have */
    struct send_channel *channels;
    struct shelf *open;   /* with something on them, and nobody at them; last in, first out */
    struct shelf *spare;  /* with nothing on them */
    struct batch *unused; /* last in, first out: what was used last is in the cache */
    struct batch *ready, **ready_end;
};

/* A thread's life, until s->ending. */
void *send_run_thread(void *opaque);
/* NULL is allowed, for a shelf that was not filled as well. */
void send_free_shelf(struct shelf *shelf);
/* A batch comes back from an accelerator, on one of its threads. */
void send_offload_done(void *opaque, struct batch *b);
/* Under the lock. Whoever goes off to do something lets the next one see whether there is more. */
void send_wake_next(struct ram_send *s);
/* Urgent: as any other thread; otherwise behind the guest's. */
void send_set_priority(struct send_thread *t, bool urgent);

#endif
