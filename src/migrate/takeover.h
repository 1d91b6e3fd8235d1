/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far the destination is with taking the guest over. One state, a table of legal moves (takeover.c), one trace line
 * a move; nobody but takeover_move() sets it.
 *
 *   waiting ──> receiving ──> loading ──> loaded ──> asked ──> done ──> ended
 *      │            │            │          │ │        │
 *      │            └────────────┴──> failed│ │        │
 *      │            └────────────┴──────────┴─┼────────┼──> given-up
 *                                             └────────┴──> never, in-doubt
 *
 * Invariant: the guest can run here only in `asked`, `done` and `ended`, and `asked` is entered only by the source's
 * request to run, which it sends when it has written down that it will not run the guest again.
 *
 * Who may run the guest is the ledger's (ledger/ledger.h), which outlives us. A move that changes that moves the ledger
 * first, so that it is on disk before anybody is told or anything is done:
 *
 *   loaded   NOBODY        before the source hears that all is here
 *   asked    DESTINATION   before `cont`
 *   never    SOURCE        before the source hears it
 *   given-up SOURCE        (nothing is said: the source has never given it away)
 */
#ifndef GODWIT_MIGRATE_TAKEOVER_H
#define GODWIT_MIGRATE_TAKEOVER_H

#include "base/error.h"
#include "ledger/ledger.h"

#include <stdbool.h>

enum takeover_state {
    TAKEOVER_WAITING,   /* for a source whose guest fits */
    TAKEOVER_RECEIVING, /* its guest's memory */
    TAKEOVER_LOADING, /* the VMM has been given a device state to read, and cannot be used for another guest any more */
    TAKEOVER_LOADED,  /* all is here, and the source knows it: from here on only its word counts */
    TAKEOVER_ASKED,   /* to run the guest: the source has handed it over */
    TAKEOVER_DONE,    /* the guest runs here, or stays paused as it was asked to */
    TAKEOVER_ENDED,   /* and the source has said goodbye */
    TAKEOVER_FAILED,  /* nothing was handed over */
    TAKEOVER_GIVEN_UP, /* the source's word: it has not handed the guest over and never will */
    TAKEOVER_NEVER,    /* it may have been handed over, and it is certain that it does not run here and never will */
    TAKEOVER_IN_DOUBT, /* it may have been handed over; it is paused here, or it is not known how it is */
    TAKEOVER_STATES,
};

struct takeover {
    enum takeover_state state;
    struct ledger *ledger; /* of the guest; not owned */
};

const char *takeover_name(enum takeover_state state);
/* Whether the table has the move. */
bool takeover_may_move(enum takeover_state from, enum takeover_state to);
/* -1: the table does not have it, or the ledger could not be written; then nothing has moved. */
int takeover_move(struct takeover *t, enum takeover_state to, struct error *err);

/* It was let run, or was found to run: nobody takes it back to the source any more. */
void takeover_ran(struct takeover *t);

/* The source may have handed the guest over, and it is not known to run here. */
bool takeover_is_open(const struct takeover *t);
/* The migration is complete here. */
bool takeover_is_done(const struct takeover *t);

#endif
