/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both ends must agree on before anything moves. QEMU itself would notice most of it, but only when it loads the
 * device state, at the very end. Devices that the board brings along are left out: they follow from the machine type,
 * and their names differ between versions that are compatible.
 */
#include "base/cleanup.h"
#include "vmm/qemu/internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICES_MAX 4096

struct device_list {
    json_t *strings;
    bool named; /* devices with an id; the others are known by their type, for their numbers follow the command line */
};

static int add_device(void *opaque, const char *name, const char *type, struct error *err) {
    struct device_list *list = opaque;
    if (json_array_size(list->strings) >= DEVICES_MAX) {
        return error_set(err, ERROR_REFUSED, "the guest has more than %d devices", DEVICES_MAX);
    }
    json_array_append_new(list->strings, json_sprintf("%s %s", list->named ? name : "(no id)", type));
    return 0;
}

static int by_text(const void *a, const void *b) {
    return strcmp(json_string_value(*(json_t *const *)a), json_string_value(*(json_t *const *)b));
}

/* A new array with the strings of `list` in order. */
static json_t *sorted(json_t *list) {
    size_t n = json_array_size(list), i;
    CLEANUP_FREE json_t **items = calloc(n + 1, sizeof(json_t *));
    json_t *result = json_array(), *item;
    if (items == NULL) {
        return result;
    }
    json_array_foreach(list, i, item) {
        items[i] = item;
    }
    qsort(items, n, sizeof(json_t *), by_text);
    for (i = 0; i < n; i++) {
        json_array_append(result, items[i]);
    }
    return result;
}

static json_t *describe_devices(struct qemu *q, struct error *err) {
    CLEANUP_JSON json_t *all = json_array();
    struct device_list list = { .strings = all, .named = true };
    if (query_children(q->qmp, "/machine/peripheral", add_device, &list, err) != 0) {
        return NULL;
    }
    list.named = false;
    if (query_children(q->qmp, "/machine/peripheral-anon", add_device, &list, err) != 0) {
        return NULL;
    }
    return sorted(all);
}

static json_t *describe_ram(const struct vmm *vmm) {
    json_t *list = json_array();
    for (size_t i = 0; i < vmm->ram_count; i++) {
        const struct vmm_ram *r = &vmm->ram[i];
        json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "id", r->id, "size", (json_int_t)r->size, "page-size",
                                              (json_int_t)r->page_size));
    }
    return list;
}

int qemu_cpu_threads(struct vmm *vmm, pid_t **threads, size_t *count, struct error *err) {
    CLEANUP_JSON json_t *cpus = NULL;
    if (qmp_execute(qemu_of(vmm)->qmp, "query-cpus-fast", NULL, &cpus, QMP_TIMEOUT, err) < 0) {
        return -1;
    }
    *count = json_array_size(cpus);
    *threads = calloc(*count > 0 ? *count : 1, sizeof(**threads));
    if (*threads == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the vCPU threads");
    }
    size_t i;
    json_t *cpu;
    json_array_foreach(cpus, i, cpu) {
        json_int_t id = json_integer_value(json_object_get(cpu, "thread-id"));
        if (id <= 0 || id > INT_MAX) {
            free(*threads);
            *threads = NULL;
            return error_set(err, ERROR_VMM, "QEMU's answer to query-cpus-fast names no thread of vCPU %zu", i);
        }
        (*threads)[i] = (pid_t)id;
    }
    return 0;
}

/* The number of vCPUs, and the type of the first; "" where QEMU does not tell it. */
static int describe_cpus(struct qemu *q, size_t *count, char *type, size_t size, struct error *err) {
    CLEANUP_JSON json_t *cpus = NULL;
    if (qmp_execute(q->qmp, "query-cpus-fast", NULL, &cpus, QMP_TIMEOUT, err) < 0) {
        return -1;
    }
    *count = json_array_size(cpus);
    if (*count == 0) {
        return error_set(err, ERROR_VMM, "QEMU's answer to query-cpus-fast makes no sense");
    }
    struct error ignored = { 0 };
    const char *path = json_string_value(json_object_get(json_array_get(cpus, 0), "qom-path"));
    if (path == NULL || query_property_string(q->qmp, path, "type", type, size, &ignored) < 0) {
        type[0] = '\0';
    }
    return 0;
}

json_t *qemu_describe(struct vmm *vmm, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    char machine[128], cpu_type[128];
    size_t cpus;
    if (query_property_string(q->qmp, "/machine", "type", machine, sizeof(machine), err) < 0 ||
        describe_cpus(q, &cpus, cpu_type, sizeof(cpu_type), err) < 0) {
        return NULL;
    }
    json_t *devices = describe_devices(q, err);
    if (devices == NULL) {
        return NULL;
    }
    struct qmp_version v = qmp_version(q->qmp);
    json_t *d = json_pack("{s:s, s:[i,i,i], s:s, s:s, s:I, s:o, s:o}", "vmm", "qemu", "version", v.major, v.minor,
                          v.micro, "machine", machine, "cpu-type", cpu_type, "cpus", (json_int_t)cpus, "devices",
                          devices, "ram", describe_ram(vmm));
    if (d == NULL) {
        error_set(err, ERROR_SYSTEM, "no memory to describe the guest");
    }
    return d;
}
