/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the guest's stop to its run, at the source: who may run it, since when it stands still, and until when at the
 * latest.
 *
 *   asked ──► stopped ──► handed over ──► runs at the destination
 *     └─────────┴─► runs on here          └─► never: runs on here
 *
 * There is one deadline: the guest's stop, or as long as that is not known the moment at which it was asked for, and
 * stop-limit from there. Every wait of the source ends at it, those inside the VMM's functions too, and the destination
 * is told with each request how much of it is left. When it is over the attempt ends and the guest runs on here. A
 * guest that did not run waits for nothing: it has no deadline.
 *
 * After the hand-over there is no way back here. The deadline is then for the destination's word that the guest runs:
 * it has RUN_TIME at least, and when that is over the migration is in doubt.
 *
 * The main thread's.
 */
#ifndef GODWIT_MIGRATE_SWITCHOVER_H
#define GODWIT_MIGRATE_SWITCHOVER_H

#include "base/clock.h"
#include "base/error.h"
#include "migrate/relay.h"
#include "vmm/vmm.h"

#include <stdbool.h>
#include <stdint.h>

/* In all no more than stop-limit and this: who hands over at the last moment still hears what became of it. */
#define SWITCHOVER_RUN_TIME (800 * CLOCK_MS)
/* The destination has to know before we do, so that its word is here in time. */
#define SWITCHOVER_WORD_TIME (200 * CLOCK_MS)

struct switchover {
    struct vmm *vmm;        /* not owned */
    struct relay relay;     /* carries the device state */
    bool guest_was_running; /* as it was right before it was asked to stop */
    int64_t asked_at;       /* clock_now() when the VMM was asked to stop the guest; 0: not yet */
    int64_t stopped_at;     /* clock_now() at the guest's stop; 0: it has not stopped, as far as is known */
    int64_t limit;          /* ns: stop-limit as it is now; INT64_MAX: none */
    int64_t deadline;       /* clock_now(); INT64_MAX: none */
    bool never;             /* the destination's word that it never will */
};

void switchover_init(struct switchover *w, struct vmm *vmm);
/* stop-limit as it is now: it may change at any time. */
void switchover_set_limit(struct switchover *w, int64_t limit_ns);
/* The VMM is asked to stop the guest now; it has stopped. */
void switchover_ask(struct switchover *w);
void switchover_stopped(struct switchover *w, int64_t at);
/* The guest is not this side's any more, by the ledger. */
bool switchover_handed_over(const struct switchover *w);
/* It has just been handed over: from here on the deadline is for the destination's word. */
void switchover_hand_over(struct switchover *w);
/* It is known what became of it, or that it is not known: nobody waits for it any more. */
void switchover_end(struct switchover *w);

/* ns until the deadline, 0 when it is over; INT64_MAX: there is none. */
int64_t switchover_left(const struct switchover *w);
/* ms that the destination may take for what it is asked for now; 0: as long as it likes. */
int64_t switchover_within(const struct switchover *w);
/* -1 when the deadline is over; `stage` is for the text. */
int switchover_check(const struct switchover *w, const char *stage, struct error *err);

/* Takes the guest back: breaks the device state off first, which is what a VMM may hang in that writes it, then puts
 * the VMM back as it was, the guest running if it ran. No deadline holds for that any more. */
int switchover_undo(struct switchover *w, struct error *err);

#endif
