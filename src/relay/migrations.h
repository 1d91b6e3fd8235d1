/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which connections belong together. A migration of QEMU's is its main connection and any others that it makes
 * (multifd, postcopy preempt): they are opened at the destination in the order in which they came, and when one fails
 * all do.
 *
 *   source's relay        those of one process, or host, for as long as none of them has ended: then the next one is of
 *                         another migration, perhaps another attempt at the same
 *   destination's relay   those with one session, which the source's relay made up, numbered from 0
 */
#ifndef GODWIT_RELAY_MIGRATIONS_H
#define GODWIT_RELAY_MIGRATIONS_H

#include "base/error.h"
#include "relay/carry.h"
#include "wire/hello.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* QEMU has 255 multifd channels at most. */
#define MIGRATION_STREAMS 300

struct member {
    struct carry *carry;
    struct migrations *all;
    struct migration *of; /* NULL: of none */
    unsigned number;      /* in the order in which they came, from 0 */
    struct member *next;
};

struct migration {
    char whose[96]; /* at the source */
    uint8_t session[SESSION_SIZE];
    unsigned joined, opened; /* members that ever came; that are open at the destination, or were */
    bool ended, failed;      /* a member has left; one failed */
    struct error failure;    /* the first */
    uint64_t bytes;          /* of members that have left, in both directions */
    struct member *members;
    struct migration *next;
};

struct migrations {
    pthread_mutex_t lock; /* owns all of it */
    pthread_cond_t opened;
    struct migration *list;
};

void migrations_init(struct migrations *all);

/* At the source: the migration that this is one more connection of, or a new one. */
int migrations_join_whose(struct migrations *all, const char *whose, struct member *m, struct error *err);
/* At the destination: only as number `number` of its session. */
int migrations_join_session(struct migrations *all, const uint8_t session[SESSION_SIZE], unsigned number,
                            struct member *m, struct error *err);

/* Waits until all that came before it are open. -1: the migration has failed. */
int migrations_await_turn(struct migrations *all, struct member *m, struct error *err);
void migrations_opened(struct migrations *all, struct member *m);

/* What became of a migration, said by its last member. */
struct migration_end {
    bool last; /* else nothing of the others is filled */
    unsigned streams;
    uint64_t bytes;
    struct error failure; /* ERROR_NONE: all of it was carried */
};
/* The carry has ended; `why` NULL: well. If not, the others fail too. */
void migrations_leave(struct migrations *all, struct member *m, const struct error *why, struct migration_end *end);
/* Everything under way fails. */
void migrations_fail_all(struct migrations *all, const struct error *why);

#endif
