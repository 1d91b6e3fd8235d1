/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.h"

#include "base/clock.h"
#include "incoming.h"
#include "migration.h"
#include "qmp_server.h"

#include <string.h>

static const char *const state_names[RUN_STATES] = {
    [RUN_PRELAUNCH] = "prelaunch",
    [RUN_RUNNING] = "running",
    [RUN_PAUSED] = "paused",
    [RUN_INMIGRATE] = "inmigrate",
    [RUN_FINISH_MIGRATE] = "finish-migrate",
    [RUN_POSTMIGRATE] = "postmigrate",
};

const char *machine_state_name(enum runstate state) {
    return state_names[state];
}

int machine_state_from_name(const char *name, enum runstate *state, struct error *err) {
    for (int i = 0; i < RUN_STATES; i++) {
        if (strcmp(state_names[i], name) == 0) {
            *state = (enum runstate)i;
            return 0;
        }
    }
    return error_set(err, ERROR_PEER, "no run state is called \"%s\"", name);
}

void machine_event(struct machine *machine, const char *name, json_t *data) {
    if (machine->server != NULL) {
        qmp_server_event(machine->server, name, data);
    } else {
        json_decref(data);
    }
}

void machine_start(struct machine *machine) {
    if (machine->state == RUN_RUNNING) {
        return;
    }
    machine->given_up = false;
    machine_event(machine, "RESUME", NULL);
    machine->state = RUN_RUNNING;
    dirty_start(&machine->dirty);
    stats_write(&machine->stats);
}

void machine_stop(struct machine *machine, enum runstate state, bool force) {
    if (machine->state == RUN_RUNNING) {
        dirty_stop(&machine->dirty);
        machine->state = state;
        stats_write(&machine->stats);
        machine_event(machine, "STOP", NULL);
    } else if (force) {
        machine->state = state;
    }
    clock_sleep((int64_t)machine->options.drain_ms * CLOCK_MS);
}

int machine_open(struct machine *machine, const struct options *options, struct error *err) {
    *machine = (struct machine){ .options = *options, .memory = options->memory, .autostart = !options->paused };
    pthread_mutex_init(&machine->lock, NULL);
    if (memory_open(&machine->memory, options->read_only, err) < 0 ||
        dirty_open(&machine->dirty, &machine->memory, &options->load, (unsigned)options->cpus, err) < 0 ||
        stats_open(&machine->stats, options->stats, &machine->dirty, err) < 0 ||
        parameters_open(&machine->parameters, err) < 0 || (machine->migration = migration_new(machine, err)) == NULL ||
        (machine->incoming = incoming_new(machine, err)) == NULL) {
        return -1;
    }
    machine->state = options->incoming ? RUN_INMIGRATE : RUN_PRELAUNCH;
    if (options->incoming) {
        return 0;
    }
    if (memory_fill(&machine->memory, options->fill, &options->load.mix, options->load.seed, err) < 0) {
        return -1;
    }
    if (machine->autostart) {
        machine_start(machine);
    }
    return 0;
}

void machine_close(struct machine *machine) {
    migration_free(machine->migration);
    incoming_free(machine->incoming);
    if (machine->server != NULL) {
        qmp_server_free(machine->server);
    }
    fd_sets_close(&machine->fd_sets);
    fd_names_close(&machine->fd_names);
    stats_close(&machine->stats);
    dirty_close(&machine->dirty);
    parameters_close(&machine->parameters);
    memory_close(&machine->memory);
}
