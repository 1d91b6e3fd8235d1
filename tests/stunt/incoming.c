/* SPDX-License-Identifier: Apache-2.0 */
#include "incoming.h"

#include "base/cleanup.h"
#include "device.h"
#include "qmp_server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

struct incoming {
    struct machine *machine;
    const char *status; /* under the machine lock; NULL before it begins */
    bool begun, joinable;
    bool given_up; /* under the machine lock: the process ends, and that is no failure of the load */
    int fd;
    pthread_t thread;
};

struct incoming *incoming_new(struct machine *machine, struct error *err) {
    struct incoming *incoming = calloc(1, sizeof(*incoming));
    if (incoming == NULL) {
        error_set(err, ERROR_SYSTEM, "no memory");
        return NULL;
    }
    incoming->machine = machine;
    incoming->fd = -1;
    return incoming;
}

void incoming_free(struct incoming *incoming) {
    if (incoming == NULL) {
        return;
    }
    pthread_mutex_lock(&incoming->machine->lock);
    incoming->given_up = true;
    if (incoming->fd >= 0) {
        shutdown(incoming->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&incoming->machine->lock);
    if (incoming->joinable) {
        pthread_join(incoming->thread, NULL);
    }
    free(incoming);
}

static void set_status(struct incoming *incoming, const char *status) {
    incoming->status = status;
    if (parameters_capability(&incoming->machine->parameters, "events")) {
        machine_event(incoming->machine, "MIGRATION", json_pack("{s:s}", "status", status));
    }
}

/* Under the lock. */
static void fail(struct incoming *incoming, const struct error *err) {
    if (incoming->given_up) {
        return;
    }
    set_status(incoming, "failed");
    fprintf(stderr, "stunt: %s\nstunt: load of migration failed: %s\n", err->desc,
            err->class == ERROR_LINK ? "Input/output error" : "Invalid argument");
    qmp_server_remove(incoming->machine->server);
    _exit(1);
}

/* Under the lock. A source that was not running leaves a guest that is not running either. */
static void take_over(struct incoming *incoming, enum runstate state) {
    struct machine *machine = incoming->machine;
    if (state != RUN_RUNNING) {
        machine->state = state;
    } else if (machine->autostart) {
        machine_start(machine);
    } else {
        machine->state = RUN_PAUSED;
    }
    /* Last: whoever sees it may use the guest at once. */
    set_status(incoming, "completed");
}

static void *incoming_main(void *argument) {
    struct incoming *incoming = argument;
    struct machine *machine = incoming->machine;
    struct error err = { 0 };
    enum runstate state = RUN_RUNNING;
    struct pollfd first_bytes = { incoming->fd, POLLIN, 0 };
    poll(&first_bytes, 1, -1);
    pthread_mutex_lock(&machine->lock);
    set_status(incoming, "active");
    pthread_mutex_unlock(&machine->lock);
    int result = device_load(machine, incoming->fd, &state, &err);
    LOCK_GUARD(&machine->lock);
    if (result < 0) {
        fail(incoming, &err);
    } else {
        take_over(incoming, state);
    }
    close(incoming->fd);
    incoming->fd = -1;
    return NULL;
}

int incoming_allowed(const struct incoming *incoming, struct error *err) {
    if (incoming->begun) {
        return error_set(err, ERROR_VMM, "The incoming migration has already been started");
    }
    if (incoming->machine->state != RUN_INMIGRATE) {
        return error_set(err, ERROR_VMM, "'-incoming' was not specified on the command line");
    }
    return 0;
}

int incoming_begin(struct incoming *incoming, int fd, struct error *err) {
    incoming->fd = fd;
    set_status(incoming, "setup");
    errno = pthread_create(&incoming->thread, NULL, incoming_main, incoming);
    if (errno != 0) {
        close(fd);
        incoming->fd = -1;
        return error_errno(err, ERROR_SYSTEM, "the incoming thread");
    }
    incoming->begun = incoming->joinable = true;
    return 0;
}

json_t *incoming_query(const struct incoming *incoming) {
    /* QEMU says nothing about a load of which no byte has come yet. */
    bool quiet = incoming->status == NULL || strcmp(incoming->status, "setup") == 0;
    return quiet ? NULL : json_pack("{s:s}", "status", incoming->status);
}
