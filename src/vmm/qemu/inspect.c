/* SPDX-License-Identifier: Apache-2.0 */
/* Whether this QEMU is one that godwit can work with, on this side. Changes nothing in it. */
#include "base/cleanup.h"
#include "vmm/qemu/internal.h"

#include <stdlib.h>
#include <string.h>

/* The first QEMU that bears to be told twice to give its disks up. */
#define GIVES_UP_TWICE 10

/* Disks of a guest that came here are taken when it runs first (late-block-activate). Until then QEMU before 10.0 ends
 * in a migration: bdrv_inactivate_recurse() asserts that what it is to give up is not given up. It does not tell; but
 * of an incoming migration it has no figures of RAM, of one of its own it has. Who has let the guest run since, and
 * paused it, is sent away too. */
static int check_disks_taken(struct qemu *q, const struct query_migration *m, struct error *err) {
    CLEANUP_JSON json_t *nodes = NULL;
    if (m->status != VMM_COMPLETED || m->has_ram || qmp_version(q->qmp).major >= GIVES_UP_TWICE) {
        return 0;
    }
    if (query_if_known(q->qmp, "query-named-block-nodes", NULL, &nodes, err) < 0) {
        return -1;
    }
    return json_array_size(nodes) == 0
               ? 0
               : error_set(err, ERROR_REFUSED,
                           "the guest came here by a migration and is paused: this QEMU (before %d.0) does not tell "
                           "whether it has taken the disks since, and if not it would end in another migration, and "
                           "the guest with it. Let the guest run (`cont`) while it is moved",
                           GIVES_UP_TWICE);
}

static int check_source(struct qemu *q, struct error *err) {
    struct query_state state;
    struct query_migration m;
    if (query_state(q->qmp, &state, err) < 0 || query_migration(q->qmp, &m, err) < 0) {
        return -1;
    }
    if (query_migration_live(&m)) {
        return error_set(err, ERROR_REFUSED, "QEMU is migrating this guest already (\"%s\")", m.name);
    }
    if (strcmp(state.name, "postmigrate") == 0 && m.status != VMM_COMPLETED) {
        /* where QEMU leaves a paused guest whose migration was called off; it would refuse to migrate it again */
        return error_set(err, ERROR_REFUSED,
                         "the guest is in state \"postmigrate\" after a migration that was %s: "
                         "`cont` it first (and `stop` it again)",
                         m.name);
    }
    /* prelaunch is a guest started with -S that was never run: paused under another name */
    if (!state.running && strcmp(state.name, "paused") != 0 && strcmp(state.name, "prelaunch") != 0) {
        return error_set(err, ERROR_REFUSED, "the guest must be running or paused, and is in state \"%s\"", state.name);
    }
    return state.running ? 0 : check_disks_taken(q, &m, err);
}

/* QEMU's own reasons (since 6.0). Asked for after ours, which say what to do about it. */
int qemu_check_blocked_reasons(struct qemu *q, struct error *err) {
    struct query_migration m;
    if (query_migration(q->qmp, &m, err) < 0) {
        return -1;
    }
    if (m.blocked[0] != '\0') {
        return error_set(err, ERROR_REFUSED, "QEMU says that this guest cannot be migrated: %s", m.blocked);
    }
    return 0;
}

static bool is_option(const char *word, const char *option) {
    word += strncmp(word, "--", 2) == 0 ? 1 : 0;
    return strcmp(word, option) == 0;
}

/* -S keeps the guest from running when the device state is loaded: then the hand-over is ours to order. Which words of
 * a command line are options and which are values of options cannot be told without knowing them all, so a word "-S"
 * counts wherever it stands. */
static int check_command_line(pid_t pid, struct error *err) {
    CLEANUP_FREE char **argv = process_command_line(pid, err);
    if (argv == NULL) {
        return -1;
    }
    bool stopped = false, deferred = false;
    for (size_t i = 0; argv[i] != NULL; i++) {
        stopped = stopped || is_option(argv[i], "-S");
        deferred =
            deferred || (is_option(argv[i], "-incoming") && argv[i + 1] != NULL && strcmp(argv[i + 1], "defer") == 0);
    }
    if (!deferred) {
        return error_set(err, ERROR_REFUSED,
                         "the destination QEMU waits for a migration of its own kind: start it with "
                         "-incoming defer -S");
    }
    if (!stopped) {
        return error_set(err, ERROR_REFUSED,
                         "the destination QEMU would run the guest by itself: start it with -S beside "
                         "-incoming defer");
    }
    return 0;
}

static int check_destination(struct qemu *q, struct error *err) {
    struct query_state state;
    struct query_migration m;
    if (query_state(q->qmp, &state, err) < 0 || query_migration(q->qmp, &m, err) < 0) {
        return -1;
    }
    if (strcmp(state.name, "inmigrate") != 0) {
        return error_set(err, ERROR_REFUSED,
                         "the destination QEMU does not wait for a migration (it is \"%s\"): start it "
                         "with -incoming defer -S",
                         state.name);
    }
    if (m.status != VMM_IDLE) {
        return error_set(err, ERROR_REFUSED,
                         "the destination QEMU has begun a migration already (\"%s\"): start a new one "
                         "with -incoming defer -S",
                         m.name);
    }
    return check_command_line(q->vmm.pid, err);
}

/* Whether the VMM can be a source or a destination at all comes first: of one that cannot the rest says nothing. */
int qemu_inspect(struct vmm *vmm, enum vmm_side side, struct findings *found, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    q->side = side;
    if (vmm->pid == 0) {
        findings_refuse(found, "the process behind the QMP socket is not known here (TCP, or another pid namespace): "
                               "pass --pid");
        return 0;
    }
    if (!qmp_takes_fds(q->qmp)) {
        findings_refuse(found, "over TCP QEMU takes no descriptor for its device state: give godwit a monitor on a "
                               "unix socket (chardev-add and -mon, or -qmp unix:PATH,server=on,wait=off)");
    }
    int usable = side == VMM_SOURCE ? check_source(q, err) : check_destination(q, err);
    if (usable < 0) {
        return findings_take(found, usable, err);
    }
    if (qemu_find_blockers(q, found, err) < 0 ||
        (side == VMM_SOURCE &&
         (qemu_find_jobs(q, found, err) < 0 || findings_take(found, qemu_check_blocked_reasons(q, err), err) < 0))) {
        return -1;
    }
    return qemu_find_ram(q, found, err) < 0 ? -1 : qemu_find_own(q, found, err);
}
