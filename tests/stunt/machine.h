/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest as a whole: what it is made of, whether it runs, and the lock under which all of that changes (QEMU's big
 * lock in small: QMP commands run under it, and the migration threads take it to change the state).
 *
 * Lock order: machine lock, then the locks inside dirty, stats and qmp_server, each of which is taken last.
 */
#ifndef STUNT_MACHINE_H
#define STUNT_MACHINE_H

#include "dirty.h"
#include "fd_names.h"
#include "fd_sets.h"
#include "options.h"
#include "parameters.h"
#include "stats.h"

#include <jansson.h>

enum runstate {
    RUN_PRELAUNCH,
    RUN_RUNNING,
    RUN_PAUSED,
    RUN_INMIGRATE,
    RUN_FINISH_MIGRATE,
    RUN_POSTMIGRATE,
    RUN_STATES
};

struct qmp_server;
struct migration;
struct incoming;

struct machine {
    struct options options;
    struct memory memory;
    struct dirty dirty;
    struct stats stats;
    struct parameters parameters;
    struct fd_names fd_names;
    struct fd_sets fd_sets;
    struct qmp_server *server; /* owned; NULL before it listens */
    struct migration *migration;
    struct incoming *incoming;
    pthread_mutex_t lock;
    enum runstate state;
    bool given_up;  /* the disks, by xen-save-devices-state */
    bool blocked;   /* --block-after: something stands against a migration by now */
    bool autostart; /* run after an incoming migration */
    bool quit;      /* the QMP server returns after the answer that it is about to send */
};

/* Opens the parts, fills RAM, and runs the guest unless it was asked not to. The server is not opened here. */
int machine_open(struct machine *machine, const struct options *options, struct error *err);
void machine_close(struct machine *machine);

/* All of these under the lock. */
void machine_start(struct machine *machine);
/* Stops a guest that runs. Takes the new state only then, or when it must be taken whatever was before. */
void machine_stop(struct machine *machine, enum runstate state, bool force);
const char *machine_state_name(enum runstate state);
int machine_state_from_name(const char *name, enum runstate *state, struct error *err);
/* Tells the client, if there is one. Takes over `data` (NULL for none). */
void machine_event(struct machine *machine, const char *name, json_t *data);

#endif
