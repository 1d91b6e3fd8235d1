/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the destination side, each with a header of its own, and what joins them.
 *
 *   loop        everything that is waited for: the parts register what they wait for
 *   visitors    who connects                 ── a source that brings its guest ──> caller
 *   caller      the source that is served, and what it asks for
 *   takeover    how far it is: what may be said and done, and what an end means
 *   ram         the guest's memory as it arrives, and what the source is told of it
 *   relay       the device state on its way to the VMM
 *
 * The main thread runs loop_turn() and serves a request when one is there (destination.c); a stage that waits
 * (destination_stages.c) turns the loop too, so that a cancel, a broken link, a dead VMM or a stranger is seen wherever
 * it waits. Any -1 ends the migration, and destination_verdict.c says what that means.
 */
#ifndef GODWIT_MIGRATE_DESTINATION_PARTS_H
#define GODWIT_MIGRATE_DESTINATION_PARTS_H

#include "loop/loop.h"
#include "migrate/caller.h"
#include "migrate/control.h"
#include "migrate/destination.h"
#include "migrate/destination_ram.h"
#include "migrate/events.h"
#include "migrate/guardian.h"
#include "migrate/relay.h"
#include "migrate/status.h"
#include "migrate/takeover.h"
#include "migrate/visitors.h"

struct destination {
    const struct destination_config *config;
    struct vmm *vmm;
    struct params params;
    struct status status;
    struct events events;
    struct control *control;
    struct guardian guardian;
    struct loop loop;
    struct visitors visitors;
    struct takeover takeover;
    struct caller caller;
    struct destination_ram ram;
    struct relay relay;
    int stage; /* index of the last stage that was served, -1 */
    struct destination_ends {
        int cancel_fd; /* eventfd: the control thread wants the migration to end */
        struct loop_watch signal, cancel, vmm;
        struct loop_deadline nobody; /* no source has come for so long */
    } ends;
};

/* destination_control.c */
extern const struct control_ops destination_control_ops;

/* destination_verdict.c: the migration has ended with `err`: tells the source, people and the status what that means.
 * Returns the exit status; `err` is cleared when it was no failure after all. */
int destination_conclude(struct destination *d, struct error *err);

#endif
