/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An emulated accelerator: one process is one card. A client is one connection, which is one device of one migration.
 *
 *   main thread:  accept, messages in ──► client's queue          done list ──(when due)──► messages out
 *   workers:                              └─► fair choice, pace, ISA-L          ─┘
 */
#ifndef GODWIT_TESTS_ACCEL_CARD_H
#define GODWIT_TESTS_ACCEL_CARD_H

#include "accel/emulated_protocol.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_FAULTS 16
#define MAX_WORKERS 8
#define MAX_INSTANCES 64

struct fault {
    enum emulated_fault kind;
    uint64_t from, count; /* jobs, as numbered by the card; count 0: unused */
};

struct options {
    const char *socket, *stats;
    uint64_t rate;      /* uncompressed bytes a second, all clients together; 0: as fast as it goes */
    int64_t latency_ns; /* on top of what the rate asks for */
    unsigned depth;     /* jobs that an instance takes */
    unsigned instances, threads;
    struct fault fault[MAX_FAULTS];
};

/* Mapped memory of a client. */
struct window {
    uint8_t *base;
    size_t size;
};

struct job {
    struct job *next;
    struct client *client;
    struct emulated_message request, answer;
    uint64_t number;
    int64_t due; /* not answered before */
};

struct client {
    struct client *next;
    int fd; /* -1: gone, and freed when nobody has a job of it any more */
    int pid;
    unsigned busy; /* jobs that are in a worker or in the done list */
    unsigned instances;
    unsigned in_flight[MAX_INSTANCES];
    struct window in, out;
    struct job *pending, **pending_tail;
    uint64_t served; /* uncompressed bytes, by which fairness goes; not the statistics */
    uint64_t jobs, inflated, bytes_in, bytes_out;
};

struct card {
    struct options options;
    int listener, wake_fd;
    pthread_mutex_t lock;
    pthread_cond_t work; /* with lock: there may be a job to choose */
    bool stopping;
    struct client *clients;
    uint64_t next_job;
    uint64_t served; /* of the client that was chosen last */
    int64_t busy_until;
    unsigned busy_workers;
    struct job *done; /* by due time */
    unsigned violations;
    int64_t busy_ns;
    uint64_t faults_done;
    char *gone; /* statistics of clients that have left, as JSON objects with a comma behind each */
    size_t gone_size;
    pthread_t worker[MAX_WORKERS];
};

/* worker.c */
void *card_worker(void *card);

/* client.c; with the lock held */
void client_accept(struct card *card);
/* Reads what there is; a client that breaks the rules or has left loses its connection. */
void client_hear(struct card *card, struct client *client);
void client_answer(struct card *card, struct job *job);
void client_drop(struct card *card, struct client *client);
/* Frees those that are gone and have nothing in work. */
void clients_sweep(struct card *card);

/* fault.c */
/* Adds "KIND@FROM[:COUNT]" to the plan; false when it is not one or there is no room. */
bool fault_parse(struct fault *plan, const char *text);
bool fault_add(struct fault *plan, struct fault fault);
/* Whether the plan has that for this job. */
bool fault_hits(const struct fault *plan, enum emulated_fault kind, uint64_t job);

/* stats.c */
void stats_keep(struct card *card, const struct client *client);
int stats_write(struct card *card, const char *path);

#endif
