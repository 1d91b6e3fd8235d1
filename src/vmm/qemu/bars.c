/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands against VMM_WAY_SAVE. xen-save-devices-state asks nobody and looks at nothing: where the device state
 * cannot be saved QEMU may end in it, and what only a migration takes care of is left out. So each of these is asked
 * for before the guest stops.
 */
#include "base/cleanup.h"
#include "vmm/qemu/internal.h"

#include <stdio.h>
#include <string.h>

/* Of those before, nobody knows whether they would tell what blocks a migration. */
#define TELLS_BLOCKERS 6
/* Saving the state of an NVMe controller ends those before. They say so in blocked-reasons too. */
#define SAVES_NVME 11

static const char *const needed[] = { "xen-save-devices-state", "add-fd", "remove-fd", "query-fdsets" };

static bool lists(const json_t *commands, const char *name) {
    size_t i;
    json_t *item;
    json_array_foreach(commands, i, item) {
        const char *found = json_string_value(json_object_get(item, "name"));
        if (found != NULL && strcmp(found, name) == 0) {
            return true;
        }
    }
    return false;
}

static int check_commands(struct qemu *q, struct findings *found, struct error *err) {
    CLEANUP_JSON json_t *commands = NULL;
    if (query_if_known(q->qmp, "query-commands", NULL, &commands, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        if (!lists(commands, needed[i])) {
            findings_refuse(found, "this QEMU has no command %s", needed[i]);
        }
    }
    return 0;
}

static int check_target(struct qemu *q, struct findings *found, struct error *err) {
    CLEANUP_JSON json_t *target = NULL;
    char arch[32];
    if (query_if_known(q->qmp, "query-target", NULL, &target, err) < 0) {
        return -1;
    }
    if (!query_is_x86(target, arch, sizeof(arch))) {
        findings_refuse(found, "xen-save-devices-state is known to be whole on x86 only, and this QEMU is for %s",
                        arch[0] != '\0' ? arch : "nobody knows what");
    }
    return 0;
}

static int check_state(struct qemu *q, struct findings *found, struct error *err) {
    struct query_state state;
    if (query_state(q->qmp, &state, err) < 0) {
        return -1;
    }
    if (!state.running) {
        findings_refuse(found, "the guest is paused: saving its state gives its disks up, and only running it would "
                               "take them back");
    }
    return 0;
}

static int note_nvme(void *opaque, const char *name, const char *type, struct error *err) {
    (void)err;
    if (strcmp(type, "nvme") == 0) {
        findings_refuse(opaque, "saving the state of the NVMe controller %s would end this QEMU (before %d)", name,
                        SAVES_NVME);
    }
    return 0;
}

static int check_devices(struct qemu *q, struct findings *found, struct error *err) {
    static const char *const paths[] = { "/machine/peripheral", "/machine/peripheral-anon", "/machine/unattached" };
    for (size_t i = 0; qmp_version(q->qmp).major < SAVES_NVME && i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (query_children(q->qmp, paths[i], note_nvme, found, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int check_blockers(struct qemu *q, struct findings *found, struct error *err) {
    if (qmp_version(q->qmp).major < TELLS_BLOCKERS) {
        findings_refuse(found, "this QEMU is older than %d.0 and does not tell what blocks a migration",
                        TELLS_BLOCKERS);
        return 0;
    }
    return findings_take(found, qemu_check_blocked_reasons(q, err), err);
}

/* ---- the form of the stream ---- */

/* Machine types up to 2.3 have a stream without configuration and footers. */
static bool is_old_machine(const char *machine) {
    const char *version = strrchr(machine, '-');
    unsigned major, minor;
    return version != NULL && sscanf(version, "-%u.%u", &major, &minor) == 2 &&
           (major < 2 || (major == 2 && minor <= 3));
}

/* QEMU tells the form in the human monitor's list of what its migration goes by, which since 9.1 needs -a. */
static int ask_form(struct qemu *q, const char *line, struct findings *found, bool *told, struct error *err) {
    static const char *const parts[] = { "send-configuration", "send-section-footer" };
    CLEANUP_JSON json_t *answer = NULL;
    if (query_if_known(q->qmp, "human-monitor-command", json_pack("{s:s}", "command-line", line), &answer, err) < 0) {
        return -1;
    }
    const char *text = json_is_string(answer) ? json_string_value(answer) : "";
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        char off[64];
        snprintf(off, sizeof(off), "%s: off", parts[i]);
        *told = *told || strstr(text, parts[i]) != NULL;
        if (strstr(text, off) != NULL) {
            findings_refuse(found, "the stream of this machine has another form (%s)", off);
        }
    }
    return 0;
}

static int check_form(struct qemu *q, struct findings *found, struct error *err) {
    char type[QEMU_MACHINE_SIZE];
    bool told = false;
    if (query_property_string(q->qmp, "/machine", "type", type, sizeof(type), err) < 0) {
        return -1;
    }
    size_t length = strlen(type);
    if (length > 8 && strcmp(type + length - 8, "-machine") == 0) {
        type[length - 8] = '\0';
    }
    memcpy(q->save.machine, type, sizeof(type));
    if (is_old_machine(type)) {
        findings_refuse(found, "the stream of the machine type %s has no configuration", type);
        return 0;
    }
    if (ask_form(q, "info migrate", found, &told, err) < 0) {
        return -1;
    }
    return told ? 0 : ask_form(q, "info migrate -a", found, &told, err);
}

static void check_reach(struct qemu *q, struct findings *found) {
    if (q->save.unreachable.used > 0) {
        findings_refuse(found, "RAM that QEMU owns itself cannot be read from outside: %s", q->save.unreachable.text);
    }
}

/* The commands and the target come first: of a QEMU without them the rest is of no use, and may not be known. */
int qemu_find_bars(struct qemu *q, struct findings *found, struct error *err) {
    if (check_commands(q, found, err) < 0 || check_target(q, found, err) < 0) {
        return -1;
    }
    if (json_array_size(found->refusals) > 0) {
        return 0;
    }
    if (check_state(q, found, err) < 0 || check_blockers(q, found, err) < 0 || check_devices(q, found, err) < 0 ||
        check_form(q, found, err) < 0) {
        return -1;
    }
    check_reach(q, found);
    return 0;
}
