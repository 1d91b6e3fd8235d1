/* SPDX-License-Identifier: Apache-2.0 */
#include "migration.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "device.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum status { NONE, SETUP, ACTIVE, PRE_SWITCHOVER, DEVICE, CANCELLING, CANCELLED, COMPLETED, FAILED };

static const char *const status_names[] = {
    [NONE] = "none",     [SETUP] = "setup",           [ACTIVE] = "active",       [PRE_SWITCHOVER] = "pre-switchover",
    [DEVICE] = "device", [CANCELLING] = "cancelling", [CANCELLED] = "cancelled", [COMPLETED] = "completed",
    [FAILED] = "failed",
};

/* What QEMU counts as RAM beside the guest's: firmware, video memory, tables. */
#define OTHER_RAM UINT64_C(17637376)

struct migration {
    struct machine *machine;
    /* All under the machine lock, but for `fd` and `written`, which the thread reads and writes without. */
    enum status status;
    pthread_cond_t changed; /* status or go_on */
    bool go_on;             /* migrate-continue came */
    int fd;
    pthread_t thread;
    bool joinable;
    enum runstate before; /* what the guest was when it was stopped */
    bool stopped;
    int64_t begun_at, stopped_at, ended_at;
    uint64_t written;
    struct error error;
};

struct migration *migration_new(struct machine *machine, struct error *err) {
    struct migration *migration = calloc(1, sizeof(*migration));
    if (migration == NULL) {
        error_set(err, ERROR_SYSTEM, "no memory");
        return NULL;
    }
    migration->machine = machine;
    migration->fd = -1;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&migration->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return migration;
}

static void join_thread(struct migration *migration) {
    if (migration->joinable) {
        pthread_join(migration->thread, NULL);
        migration->joinable = false;
    }
}

void migration_free(struct migration *migration) {
    if (migration == NULL) {
        return;
    }
    pthread_mutex_lock(&migration->machine->lock);
    migration_cancel(migration);
    pthread_mutex_unlock(&migration->machine->lock);
    join_thread(migration);
    pthread_cond_destroy(&migration->changed);
    free(migration);
}

bool migration_active(const struct migration *migration) {
    return migration->status >= SETUP && migration->status <= CANCELLING;
}

static void set_status(struct migration *migration, enum status status) {
    migration->status = status;
    pthread_cond_broadcast(&migration->changed);
    if (parameters_capability(&migration->machine->parameters, "events")) {
        machine_event(migration->machine, "MIGRATION", json_pack("{s:s}", "status", status_names[status]));
    }
}

static void tell_pass(struct migration *migration, int pass) {
    if (parameters_capability(&migration->machine->parameters, "events")) {
        machine_event(migration->machine, "MIGRATION_PASS", json_pack("{s:i}", "pass", pass));
    }
}

/* The guest runs on after its vCPUs were asked to stop; a cancel ends the wait. Under the lock. */
static void wait_pause(struct migration *migration) {
    int64_t until = clock_now() + (int64_t)migration->machine->options.pause_ms * CLOCK_MS;
    struct timespec deadline = { .tv_sec = until / CLOCK_S, .tv_nsec = until % CLOCK_S };
    int result = 0;
    while (result == 0 && migration->status == ACTIVE && migration->machine->options.pause_ms > 0) {
        result = pthread_cond_timedwait(&migration->changed, &migration->machine->lock, &deadline);
    }
}

/* Stops the guest and waits for migrate-continue where that is wanted. Under the lock. */
static void stop_guest(struct migration *migration) {
    struct machine *machine = migration->machine;
    migration->before = machine->state;
    migration->stopped = true;
    migration->stopped_at = clock_now();
    machine_stop(machine, RUN_FINISH_MIGRATE, true);
    if (!parameters_capability(&machine->parameters, "pause-before-switchover")) {
        tell_pass(migration, 2);
        return;
    }
    set_status(migration, PRE_SWITCHOVER);
    while (migration->status == PRE_SWITCHOVER && !migration->go_on) {
        pthread_cond_wait(&migration->changed, &machine->lock);
    }
    if (migration->status == PRE_SWITCHOVER) {
        set_status(migration, DEVICE);
        tell_pass(migration, 2);
    }
}

/* Under the lock, whatever happened. */
static void finish(struct migration *migration) {
    struct machine *machine = migration->machine;
    migration->ended_at = clock_now();
    bool cancelled = migration->status == CANCELLING;
    bool failed = !cancelled && error_is_set(&migration->error);
    if (!cancelled) {
        set_status(migration, failed ? FAILED : COMPLETED);
    }
    if (migration->stopped && (cancelled || failed) && migration->before == RUN_RUNNING) {
        machine_start(machine);
    } else if (migration->stopped && machine->state == RUN_FINISH_MIGRATE) {
        machine->state = RUN_POSTMIGRATE;
    }
    if (cancelled) {
        set_status(migration, CANCELLED);
    }
    /* After the state, as in QEMU: who sees the end of the stream finds the migration complete. */
    close(migration->fd);
    migration->fd = -1;
}

static void *migration_main(void *argument) {
    struct migration *migration = argument;
    struct machine *machine = migration->machine;
    int fd = migration->fd;
    pthread_mutex_lock(&machine->lock);
    if (migration->status == SETUP) {
        tell_pass(migration, 1);
        set_status(migration, ACTIVE);
    }
    struct error err = { 0 };
    uint64_t written = 0;
    pthread_mutex_unlock(&machine->lock);

    /* Without the lock, for the reader may be slow; the capabilities can't change meanwhile. */
    int result = device_save_setup(machine, fd, &written, &err);

    pthread_mutex_lock(&machine->lock);
    migration->written = written;
    wait_pause(migration);
    if (result == 0 && migration->status == ACTIVE) {
        stop_guest(migration);
    }
    if (result == 0 && migration->status != CANCELLING) {
        pthread_mutex_unlock(&machine->lock);
        result = device_save_rest(machine, migration->before, fd, &written, &err);
        pthread_mutex_lock(&machine->lock);
    }
    migration->written = written;
    migration->error = err;
    finish(migration);
    pthread_mutex_unlock(&machine->lock);
    return NULL;
}

int migration_allowed(const struct migration *migration, struct error *err) {
    if (migration_active(migration)) {
        return error_set(err, ERROR_VMM, "There's a migration process in progress");
    }
    if (migration->machine->state == RUN_INMIGRATE) {
        return error_set(err, ERROR_VMM, "Guest is waiting for an incoming migration");
    }
    if (migration->machine->state == RUN_POSTMIGRATE) {
        return error_set(err, ERROR_VMM, "Can't migrate the vm that was paused due to previous migration");
    }
    return 0;
}

int migration_begin(struct migration *migration, int fd, struct error *err) {
    join_thread(migration); /* it has let go of the lock for good */
    migration->fd = fd;
    migration->go_on = migration->stopped = false;
    migration->written = 0;
    migration->begun_at = clock_now();
    error_clear(&migration->error);
    set_status(migration, SETUP);
    errno = pthread_create(&migration->thread, NULL, migration_main, migration);
    if (errno != 0) {
        error_errno(err, ERROR_SYSTEM, "the migration thread");
        migration->error = *err;
        finish(migration);
        return -1;
    }
    migration->joinable = true;
    return 0;
}

void migration_fail_early(struct migration *migration, const struct error *err) {
    if (!migration_active(migration)) {
        set_status(migration, SETUP);
        migration->error = *err;
        set_status(migration, FAILED);
    }
}

int migration_continue(struct migration *migration, const char *state, struct error *err) {
    if (strcmp(state, status_names[migration->status]) != 0) {
        return error_set(err, ERROR_VMM, "Migration not in expected state: %s", status_names[migration->status]);
    }
    migration->go_on = true;
    pthread_cond_broadcast(&migration->changed);
    return 0;
}

void migration_cancel(struct migration *migration) {
    if (!migration_active(migration)) {
        return;
    }
    if (migration->status != CANCELLING) {
        set_status(migration, CANCELLING);
    }
    /* A write that nobody reads must not hold up the cancel. */
    if (migration->fd >= 0) {
        shutdown(migration->fd, SHUT_RDWR);
    }
}

static uint64_t ram_total(const struct machine *machine) {
    uint64_t total = OTHER_RAM;
    /* What x-ignore-shared leaves out: shared files, and nothing else. */
    if (!parameters_capability(&machine->parameters, "x-ignore-shared") || machine->options.private_ram) {
        total += machine->memory.pages * STUNT_PAGE;
    }
    return total;
}

static json_t *query_ram(const struct migration *migration) {
    uint64_t written = migration->written;
    return json_pack("{s:I, s:i, s:i, s:i, s:i, s:i, s:I, s:i, s:i, s:f, s:I, s:i, s:I, s:I, s:i, s:i, s:I, s:I}",
                     "total", (json_int_t)ram_total(migration->machine), "postcopy-requests", 0, "dirty-sync-count",
                     migration->status == COMPLETED ? 2 : 1, "multifd-bytes", 0, "pages-per-second", 0,
                     "downtime-bytes", 0, "page-size", (json_int_t)STUNT_PAGE, "remaining", 0, "postcopy-bytes", 0,
                     "mbps", 0.0, "transferred", (json_int_t)written, "dirty-sync-missed-zero-copy", 0, "precopy-bytes",
                     (json_int_t)written, "duplicate", (json_int_t)((OTHER_RAM - written % OTHER_RAM) / STUNT_PAGE),
                     "dirty-pages-rate", 0, "skipped", 0, "normal-bytes", (json_int_t)written, "normal",
                     (json_int_t)(written / STUNT_PAGE));
}

json_t *migration_query(struct migration *migration) {
    if (migration->status == NONE) {
        return json_object();
    }
    json_t *answer = json_pack("{s:s}", "status", status_names[migration->status]);
    bool over = migration->status == COMPLETED;
    if (migration->status == FAILED && error_is_set(&migration->error)) {
        json_object_set_new(answer, "error-desc", json_string(migration->error.desc));
    }
    if (over || (migration_active(migration) && migration->status != SETUP)) {
        int64_t end = over ? migration->ended_at : clock_now();
        json_object_set_new(answer, "setup-time", json_integer(0));
        json_object_set_new(answer, over ? "downtime" : "expected-downtime",
                            json_integer(over ? (end - migration->stopped_at) / CLOCK_MS : 300));
        json_object_set_new(answer, "total-time", json_integer((end - migration->begun_at) / CLOCK_MS));
        json_object_set_new(answer, "ram", query_ram(migration));
    }
    return answer;
}
