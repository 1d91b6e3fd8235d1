/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP commands, one short function each; what they do is elsewhere. */
#include "base/clock.h"
#include "command.h"
#include "incoming.h"
#include "migration.h"
#include "qmp_server.h"
#include "qom.h"
#include "saved.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMMAND(name) static json_t *name(struct machine *machine, json_t *arguments, struct error *err)
#define UNUSED_ERROR (void)arguments, (void)err
#define UNUSED_MACHINE (void)machine, (void)arguments, (void)err

static const char *text_of(const json_t *arguments, const char *name) {
    return json_string_value(json_object_get(arguments, name));
}

/* An empty answer for 0, none for -1. */
static json_t *done(int result) {
    return result == 0 ? json_object() : NULL;
}

COMMAND(nothing) {
    UNUSED_MACHINE;
    return json_object();
}

COMMAND(empty_list) {
    UNUSED_MACHINE;
    return json_array();
}

/* The few lines of the human monitor that godwit asks; to all others it has nothing to say. */
COMMAND(human_command) {
    const char *line = text_of(arguments, "command-line");
    UNUSED_ERROR;
    if (strcmp(line, "info ramblock") == 0) {
        return qom_ram_blocks(machine);
    }
    return strncmp(line, "gpa2hva ", 8) == 0 ? qom_host_address(machine, line + 8) : json_string("");
}

COMMAND(query_version) {
    UNUSED_MACHINE;
    return json_loads(COMMAND_VERSION, 0, NULL);
}

COMMAND(query_commands) {
    UNUSED_MACHINE;
    json_t *list = json_array();
    for (const struct command *command = commands; command->name != NULL; command++) {
        json_array_append_new(list, json_pack("{s:s}", "name", command->name));
    }
    json_array_append_new(list, json_pack("{s:s}", "name", "qmp_capabilities"));
    return list;
}

COMMAND(query_status) {
    UNUSED_ERROR;
    return json_pack("{s:s, s:b, s:b}", "status", machine_state_name(machine->state), "singlestep", 0, "running",
                     machine->state == RUN_RUNNING);
}

COMMAND(query_uuid) {
    UNUSED_MACHINE;
    return json_pack("{s:s}", "UUID", "00000000-0000-0000-0000-000000000000");
}

COMMAND(query_kvm) {
    UNUSED_MACHINE;
    return json_pack("{s:b, s:b}", "enabled", 0, "present", 1);
}

COMMAND(query_target) {
    UNUSED_MACHINE;
    return json_pack("{s:s}", "arch", "x86_64");
}

COMMAND(query_memory_size) {
    UNUSED_ERROR;
    return json_pack("{s:I, s:i}", "base-memory", (json_int_t)(machine->memory.pages * STUNT_PAGE), "plugged-memory",
                     0);
}

COMMAND(query_memdev) {
    UNUSED_ERROR;
    return qom_memdevs(machine);
}

COMMAND(query_cpus) {
    UNUSED_ERROR;
    return qom_cpus(machine);
}

COMMAND(query_hotpluggable_cpus) {
    UNUSED_ERROR;
    return qom_hotpluggable_cpus(machine);
}

COMMAND(list_qom) {
    return qom_list(machine, text_of(arguments, "path"), err);
}

COMMAND(get_qom) {
    const char *property = text_of(arguments, "property");
    if (machine->options.swap != NULL && strcmp(property, "mem-path") == 0 &&
        ram_swap(&machine->memory.rams[0], machine->options.swap, err) < 0) {
        return NULL;
    }
    return qom_get(machine, text_of(arguments, "path"), property, err);
}

COMMAND(cont) {
    (void)arguments;
    if (machine->state == RUN_FINISH_MIGRATE) {
        return done(error_set(err, ERROR_VMM, "Migration is not finalized yet"));
    }
    if (machine->state == RUN_INMIGRATE) {
        machine->autostart = true;
    } else {
        machine_start(machine);
    }
    return json_object();
}

COMMAND(stop) {
    UNUSED_ERROR;
    if (machine->state == RUN_INMIGRATE) {
        machine->autostart = false;
    } else {
        machine_stop(machine, RUN_PAUSED, false);
    }
    return json_object();
}

COMMAND(quit) {
    UNUSED_ERROR;
    machine_event(machine, "SHUTDOWN", json_pack("{s:b, s:s}", "guest", 0, "reason", "host-qmp-quit"));
    machine->quit = true;
    return json_object();
}

/* An empty transaction drains all block I/O; nothing else of it is here. */
COMMAND(transaction) {
    if (json_array_size(json_object_get(arguments, "actions")) > 0) {
        return done(error_set(err, ERROR_VMM, "the stunt has no block devices for a transaction"));
    }
    clock_sleep((int64_t)machine->options.drain_ms * CLOCK_MS);
    return json_object();
}

COMMAND(getfd) {
    int fd = qmp_server_take_fd(machine->server);
    if (fd < 0) {
        return done(error_set(err, ERROR_VMM, "No file descriptor supplied via SCM_RIGHTS"));
    }
    if (isdigit((unsigned char)text_of(arguments, "fdname")[0])) {
        close(fd);
        return done(error_set(err, ERROR_VMM, "Parameter 'fdname' expects a name not starting with a digit"));
    }
    return done(fd_names_add(&machine->fd_names, text_of(arguments, "fdname"), fd, err));
}

COMMAND(closefd) {
    int fd = fd_names_take(&machine->fd_names, text_of(arguments, "fdname"));
    if (fd < 0) {
        error_set(err, ERROR_VMM, "File descriptor named '%s' not found", text_of(arguments, "fdname"));
        return NULL;
    }
    close(fd);
    return json_object();
}

COMMAND(add_fd) {
    int fd = qmp_server_take_fd(machine->server);
    if (fd < 0) {
        return done(error_set(err, ERROR_VMM, "No file descriptor supplied via SCM_RIGHTS"));
    }
    int id = fd_sets_add(&machine->fd_sets, fd, text_of(arguments, "opaque"), err);
    return id < 0 ? NULL : json_pack("{s:i, s:i}", "fdset-id", id, "fd", fd);
}

COMMAND(remove_fd) {
    return done(fd_sets_remove(&machine->fd_sets, json_integer_value(json_object_get(arguments, "fdset-id")), err));
}

COMMAND(query_fdsets) {
    UNUSED_ERROR;
    return fd_sets_list(&machine->fd_sets);
}

/* As QEMU 7.2 does it: it asks nobody, stops and runs again a guest that runs, and ends when the disks are given up
 * already. */
COMMAND(xen_save) {
    bool runs = machine->state == RUN_RUNNING;
    if (machine->given_up) {
        fputs("stunt: bdrv_inactivate_recurse: Assertion `!(bs->open_flags & BDRV_O_INACTIVE)' failed\n", stderr);
        abort();
    }
    int fd = fd_sets_open(&machine->fd_sets, text_of(arguments, "filename"), err);
    if (fd < 0) {
        return NULL;
    }
    if (runs) {
        machine_stop(machine, RUN_PAUSED, false);
    }
    clock_sleep((int64_t)machine->options.save_ms * CLOCK_MS);
    int result = saved_write(machine, fd, err);
    close(fd);
    if (runs) {
        machine_start(machine);
    } else {
        machine->given_up = result == 0 && !json_is_false(json_object_get(arguments, "live"));
    }
    return done(result);
}

/* The descriptor that "fd:NAME" means. */
static int take_uri(struct machine *machine, const char *uri, struct error *err) {
    if (strncmp(uri, "fd:", 3) != 0) {
        return error_set(err, ERROR_VMM, "Parameter 'uri' expects a valid migration protocol");
    }
    int fd = fd_names_take(&machine->fd_names, uri + 3);
    return fd >= 0 ? fd : error_set(err, ERROR_VMM, "File descriptor named '%s' has not been found", uri + 3);
}

COMMAND(migrate) {
    if (migration_allowed(machine->migration, err) < 0) {
        return NULL;
    }
    int fd = take_uri(machine, text_of(arguments, "uri"), err);
    if (fd < 0) {
        migration_fail_early(machine->migration, err);
        return NULL;
    }
    return done(migration_begin(machine->migration, fd, err));
}

COMMAND(migrate_continue) {
    return done(migration_continue(machine->migration, text_of(arguments, "state"), err));
}

COMMAND(migrate_cancel) {
    UNUSED_ERROR;
    migration_cancel(machine->migration);
    return json_object();
}

COMMAND(migrate_incoming) {
    if (incoming_allowed(machine->incoming, err) < 0) {
        return NULL;
    }
    int fd = take_uri(machine, text_of(arguments, "uri"), err);
    return fd < 0 ? NULL : done(incoming_begin(machine->incoming, fd, err));
}

COMMAND(query_migrate) {
    UNUSED_ERROR;
    json_t *answer = migration_query(machine->migration);
    json_t *incoming = incoming_query(machine->incoming);
    if (machine->blocked) {
        json_object_set_new(answer, "blocked", json_true());
        json_object_set_new(answer, "blocked-reasons", json_pack("[s]", "the stunt does not want to go"));
    }
    if (json_object_size(answer) == 0 && incoming != NULL) {
        json_decref(answer);
        return incoming;
    }
    json_decref(incoming);
    return answer;
}

COMMAND(query_capabilities) {
    UNUSED_ERROR;
    return parameters_list_capabilities(&machine->parameters);
}

COMMAND(set_capabilities) {
    if (migration_active(machine->migration)) {
        return done(error_set(err, ERROR_VMM, "There's a migration process in progress"));
    }
    return done(parameters_set_capabilities(&machine->parameters, json_object_get(arguments, "capabilities"), err));
}

COMMAND(query_parameters) {
    UNUSED_ERROR;
    return json_copy(machine->parameters.values);
}

COMMAND(set_parameters) {
    return done(parameters_set_values(&machine->parameters, arguments, err));
}

COMMAND(stunt_stats) {
    UNUSED_ERROR;
    uint64_t stamps = dirty_stamps(&machine->dirty);
    return json_pack("{s:I, s:I, s:b}", "stamps", (json_int_t)stamps, "bytes-dirtied",
                     (json_int_t)(stamps * STUNT_PAGE), "running", dirty_running(&machine->dirty));
}

COMMAND(stunt_check) {
    (void)arguments;
    if (machine->state == RUN_RUNNING || machine->state == RUN_INMIGRATE) {
        return done(error_set(err, ERROR_VMM, "the guest must be stopped, and not wait for its state"));
    }
    return done(dirty_check(&machine->dirty, err));
}

const struct command commands[] = {
    { "query-version", "", query_version },
    { "query-commands", "", query_commands },
    { "query-status", "", query_status },
    { "query-name", "", nothing },
    { "query-uuid", "", query_uuid },
    { "query-kvm", "", query_kvm },
    { "query-target", "", query_target },
    { "query-memory-size-summary", "", query_memory_size },
    { "query-memdev", "", query_memdev },
    { "query-memory-devices", "", empty_list },
    { "query-cpus-fast", "", query_cpus },
    { "query-hotpluggable-cpus", "", query_hotpluggable_cpus },
    { "query-block", "", empty_list },
    { "query-named-block-nodes", "flat:b?", empty_list },
    { "query-block-jobs", "", empty_list },
    { "query-block-exports", "", empty_list },
    { "query-jobs", "", empty_list },
    { "query-iothreads", "", empty_list },
    { "query-chardev", "", empty_list },
    { "query-pci", "", empty_list },
    { "qom-list", "path:s", list_qom },
    { "qom-get", "path:s property:s", get_qom },
    { "human-monitor-command", "command-line:s cpu-index:i?", human_command },
    { "announce-self", NULL, nothing },
    { "cont", "", cont },
    { "stop", "", stop },
    { "quit", "", quit },
    { "transaction", "actions:a properties:o?", transaction },
    { "getfd", "fdname:s", getfd },
    { "closefd", "fdname:s", closefd },
    { "add-fd", "fdset-id:i? opaque:s?", add_fd },
    { "remove-fd", "fdset-id:i fd:i?", remove_fd },
    { "query-fdsets", "", query_fdsets },
    { "xen-save-devices-state", "filename:s live:b?", xen_save },
    { "migrate", "uri:s blk:b? inc:b? detach:b? resume:b?", migrate },
    { "migrate-continue", "state:s", migrate_continue },
    { "migrate_cancel", "", migrate_cancel },
    { "migrate-incoming", "uri:s", migrate_incoming },
    { "query-migrate", "", query_migrate },
    { "query-migrate-capabilities", "", query_capabilities },
    { "migrate-set-capabilities", "capabilities:a", set_capabilities },
    { "query-migrate-parameters", "", query_parameters },
    { "migrate-set-parameters", NULL, set_parameters },
    { "stunt-stats", "", stunt_stats },
    { "stunt-check", "", stunt_check },
    { NULL, NULL, NULL },
};
