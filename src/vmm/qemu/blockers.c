/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What writes the guest's RAM without going through QEMU's page table, and so unseen by us: devices that are given the
 * host's own (VFIO, vDPA), and other processes that map the RAM (vhost-user, ivshmem). Each is refused by name. The
 * last resort against a kind that is not listed here is in ram.c: no other process may map the RAM.
 */
#include "base/cleanup.h"
#include "vmm/qemu/internal.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *prefix; /* of a QOM type */
    const char *reason;
} blocked_types[] = {
    { "vfio-", "a device of the host (VFIO) writes the guest's RAM unseen: unplug it first" },
    { "vhost-vdpa-", "a vDPA device writes the guest's RAM unseen: unplug it first" },
    { "vhost-scsi", "the host's kernel moves its data into the guest's RAM, and nothing waits for what is under way: "
                    "unplug it first" },
    { "vhost-user-", "vhost-user back ends write the guest's RAM unseen: unplug it first" },
    { "ivshmem", "its memory is shared with others and cannot be moved: unplug it first" },
    { "sev-", "the memory of a confidential guest cannot be read from outside" },
    { "tdx-guest", "the memory of a confidential guest cannot be read from outside" },
    { "s390-pv-guest", "the memory of a confidential guest cannot be read from outside" },
};

struct type_check {
    const char *path; /* of the parent */
    struct findings *found;
};

static int check_type(void *opaque, const char *name, const char *type, struct error *err) {
    const struct type_check *c = opaque;
    (void)err;
    for (size_t i = 0; i < sizeof(blocked_types) / sizeof(blocked_types[0]); i++) {
        if (strncmp(type, blocked_types[i].prefix, strlen(blocked_types[i].prefix)) == 0) {
            findings_refuse(c->found, "%s/%s is a %s: %s", c->path, name, type, blocked_types[i].reason);
            return 0;
        }
    }
    return 0;
}

static int check_types(struct qemu *q, struct findings *found, struct error *err) {
    static const char *const paths[] = { "/objects", "/machine/peripheral", "/machine/peripheral-anon",
                                         "/machine/unattached" };
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct type_check check = { paths[i], found };
        if (query_children(q->qmp, paths[i], check_type, &check, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static const char *const blocked_netdevs[] = { "vhost-user", "vhost-vdpa" };

static void refuse_netdev(const char *kind, struct findings *found) {
    findings_refuse(found,
                    "the guest has a network back end of type %s, which writes its RAM unseen: "
                    "unplug it first",
                    kind);
}

/* No QMP command lists network back ends; the human one does: "net0: index=0,type=vhost-user,…". */
static int check_netdevs(struct qemu *q, struct findings *found, struct error *err) {
    CLEANUP_JSON json_t *answer = NULL;
    json_t *args = json_pack("{s:s}", "command-line", "info network");
    if (qmp_execute(q->qmp, "human-monitor-command", args, &answer, QMP_TIMEOUT, err) < 0) {
        if (strcmp(qmp_refusal(q->qmp), "CommandNotFound") != 0) {
            return -1;
        }
        error_clear(err); /* built without it: the command line is all that is left */
    }
    const char *text = json_string_value(answer);
    for (size_t i = 0; text != NULL && i < sizeof(blocked_netdevs) / sizeof(blocked_netdevs[0]); i++) {
        char needle[32];
        snprintf(needle, sizeof(needle), "type=%s", blocked_netdevs[i]);
        if (strstr(text, needle) != NULL) {
            refuse_netdev(blocked_netdevs[i], found);
        }
    }
    return 0;
}

static int check_command_line(pid_t pid, struct findings *found, struct error *err) {
    CLEANUP_FREE char **argv = process_command_line(pid, err);
    if (argv == NULL) {
        return -1;
    }
    for (size_t i = 1; argv[i] != NULL; i++) {
        bool netdev = strcmp(argv[i - 1], "-netdev") == 0 || strcmp(argv[i - 1], "--netdev") == 0;
        for (size_t k = 0; netdev && k < sizeof(blocked_netdevs) / sizeof(blocked_netdevs[0]); k++) {
            const char *value = argv[i] + (strncmp(argv[i], "type=", 5) == 0 ? 5 : 0);
            if (strncmp(value, blocked_netdevs[k], strlen(blocked_netdevs[k])) == 0) {
                refuse_netdev(blocked_netdevs[k], found);
            }
        }
    }
    return 0;
}

static int check_descriptors(pid_t pid, struct findings *found, struct error *err) {
    static const struct {
        const char *prefix, *what;
    } devices[] = { { "/dev/vfio/", "VFIO" }, { "/dev/vhost-vdpa", "vDPA" } };
    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
        char link[128];
        int n = process_find_descriptor(pid, devices[i].prefix, link, sizeof(link), err);
        if (n < 0) {
            return -1;
        }
        if (n > 0) {
            findings_refuse(found, "QEMU has %s open: a %s device writes the guest's RAM unseen: unplug it first", link,
                            devices[i].what);
        }
    }
    return 0;
}

int qemu_find_blockers(struct qemu *q, struct findings *found, struct error *err) {
    if (check_types(q, found, err) < 0 || check_netdevs(q, found, err) < 0 ||
        check_command_line(q->vmm.pid, found, err) < 0) {
        return -1;
    }
    return check_descriptors(q->vmm.pid, found, err);
}
