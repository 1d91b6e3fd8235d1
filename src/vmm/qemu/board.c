/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/board.h"

#include "vmm/qemu/query.h"

#include <stdio.h>
#include <string.h>

#define TEXT_MAX 80
#define PLACES_MAX 4096

/* Properties of x86 boards that the guest sees. Not here: what it reads at its next start only (kernel, firmware's
 * name, boot order, SMBIOS), what the host alone sees (mem-merge, dump-guest-core), and what other comparisons cover.
 */
static const char *const properties[] = {
    "usb",  "sata",   "smbus",  "i8042", "hpet", "nvdimm",           "hmat",
    "acpi", "smm",    "vmport", "pit",   "pic",  "max-ram-below-4g", "default-bus-bypass-iommu",
    "smp",  "memory",
};

/* Members of such a property that may differ: vCPUs are counted as they are now, not as the guest began. */
static bool may_differ(const char *property, const char *member) {
    return strcmp(property, "smp") == 0 && strcmp(member, "cpus") == 0;
}

static json_t *describe_memory(struct qmp *q, struct error *err) {
    CLEANUP_JSON json_t *list = NULL;
    if (query_if_known(q, "query-memory-devices", NULL, &list, err) < 0) {
        return NULL;
    }
    json_t *devices = json_object(), *item;
    size_t i;
    json_array_foreach(list, i, item) {
        static const char *const members[] = { "addr", "slot", "node", "size" };
        json_t *data = json_object_get(item, "data"), *device = json_object();
        char id[TEXT_MAX];
        for (size_t k = 0; k < sizeof(members) / sizeof(members[0]); k++) {
            json_t *value = json_object_get(data, members[k]);
            if (json_is_integer(value)) {
                json_object_set(device, members[k], value);
            }
        }
        /* a device without an id is known by its back end */
        if (query_string(json_object_get(data, "id"), id, sizeof(id)) ||
            query_string(json_object_get(data, "memdev"), id, sizeof(id))) {
            json_object_set(devices, id, device);
        }
        json_decref(device);
    }
    return devices;
}

static json_t *describe_places(const json_t *cpus) {
    json_t *places = json_array(), *cpu;
    size_t i;
    json_array_foreach(cpus, i, cpu) {
        json_t *props = json_object_get(cpu, "props");
        if (json_is_object(props) && i < PLACES_MAX) {
            json_array_append(places, props);
        }
    }
    return places;
}

json_t *board_describe(struct qmp *q, const json_t *cpus, struct error *err) {
    CLEANUP_JSON json_t *machine = json_object();
    CLEANUP_JSON json_t *kvm = NULL;
    for (size_t i = 0; i < sizeof(properties) / sizeof(properties[0]); i++) {
        CLEANUP_JSON json_t *value = NULL;
        if (query_property(q, "/machine", properties[i], &value, err) < 0) {
            return NULL;
        }
        if (value != NULL) {
            json_object_set(machine, properties[i], value);
        }
    }
    json_t *memory = query_if_known(q, "query-kvm", NULL, &kvm, err) < 0 ? NULL : describe_memory(q, err);
    if (memory == NULL) {
        return NULL;
    }
    json_t *board = json_pack("{s:O, s:o, s:o}", "machine", machine, "memory", memory, "places", describe_places(cpus));
    if (json_is_boolean(json_object_get(kvm, "enabled"))) {
        json_object_set(board, "kvm", json_object_get(kvm, "enabled"));
    }
    return board;
}

/* Numbers, words and yes or no, as a person would write them; "" for what cannot be compared. */
static void write_value(const json_t *value, char *text, size_t size) {
    text[0] = '\0';
    if (json_is_string(value)) {
        query_string(value, text, size);
    } else if (json_is_boolean(value)) {
        snprintf(text, size, "%s", json_is_true(value) ? "on" : "off");
    } else if (json_is_integer(value)) {
        snprintf(text, size, "%lld", (long long)json_integer_value(value));
    }
}

static void match_value(const char *what, const char *name, const json_t *here, const json_t *there,
                        struct findings *found) {
    char ours[TEXT_MAX], theirs[TEXT_MAX];
    write_value(here, ours, sizeof(ours));
    write_value(there, theirs, sizeof(theirs));
    bool known = ours[0] != '\0' && theirs[0] != '\0' && strcmp(ours, "auto") != 0 && strcmp(theirs, "auto") != 0;
    if (known && strcmp(ours, theirs) != 0) {
        findings_refuse(found, "%s %s is %s at the source and %s at the destination", what, name, theirs, ours);
    }
}

static void match_machine(const json_t *here, const json_t *there, struct findings *found) {
    for (size_t i = 0; i < sizeof(properties) / sizeof(properties[0]); i++) {
        json_t *ours = json_object_get(here, properties[i]), *theirs = json_object_get(there, properties[i]), *value;
        const char *member;
        match_value("the machine's", properties[i], ours, theirs, found);
        json_object_foreach(ours, member, value) {
            char name[TEXT_MAX];
            bool maxmem = strcmp(member, "max-size") == 0;
            snprintf(name, sizeof(name), "%s.%s%s", properties[i], member, maxmem ? " (maxmem)" : "");
            if (!may_differ(properties[i], member)) {
                match_value("the machine's", name, value, json_object_get(theirs, member), found);
            }
        }
    }
}

/* That the same devices are there, the list of devices says. */
static void match_memory(const json_t *here, const json_t *there, struct findings *found) {
    const char *id, *member;
    json_t *device, *value;
    json_object_foreach((json_t *)(uintptr_t)here, id, device) {
        json_t *other = json_object_get(there, id);
        json_object_foreach(device, member, value) {
            char what[2 * TEXT_MAX];
            snprintf(what, sizeof(what), "the memory device %s:", id);
            match_value(what, member, value, json_object_get(other, member), found);
        }
    }
}

/* Whether what both say is the same. */
static bool same_place(const json_t *a, const json_t *b) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)a, name, value) {
        const json_t *other = json_object_get(b, name);
        if (json_is_integer(value) && json_is_integer(other) &&
            json_integer_value(value) != json_integer_value(other)) {
            return false;
        }
    }
    return true;
}

/* Which sockets, cores and threads there are follows from "smp"; of a guest that may get more of them while it runs,
 * which are filled is another question. */
static void match_places(const json_t *here, const json_t *there, struct findings *found) {
    size_t i, k, n = json_array_size(there);
    json_t *theirs;
    if (json_array_size(here) != n || n > PLACES_MAX) {
        return; /* how many there are is compared elsewhere */
    }
    json_array_foreach((json_t *)(uintptr_t)there, i, theirs) {
        /* nearly always the same index */
        bool is_there = same_place(theirs, json_array_get(here, i));
        for (k = 0; k < n && !is_there; k++) {
            is_there = same_place(theirs, json_array_get(here, k));
        }
        if (!is_there) {
            char *text = json_dumps(theirs, JSON_COMPACT);
            findings_refuse(found, "the destination has no vCPU where the source has one: %s",
                            text != NULL ? text : "");
            free(text);
            return;
        }
    }
}

void board_match(const json_t *here, const json_t *there, struct findings *found) {
    const json_t *ours = json_object_get(here, "kvm"), *theirs = json_object_get(there, "kvm");
    match_machine(json_object_get(here, "machine"), json_object_get(there, "machine"), found);
    match_memory(json_object_get(here, "memory"), json_object_get(there, "memory"), found);
    match_places(json_object_get(here, "places"), json_object_get(there, "places"), found);
    if (json_is_boolean(ours) && json_is_boolean(theirs) && json_is_true(ours) != json_is_true(theirs)) {
        findings_remark(found, "the guest runs with%s KVM at the source and with%s at the destination",
                        json_is_true(theirs) ? "" : "out", json_is_true(ours) ? "" : "out");
    }
}
