/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both ends must agree on before anything moves. QEMU itself would notice most of it, but only when it loads the
 * device state, at the very end. Devices that the board brings along are left out: they follow from the machine type,
 * and their names differ between versions that are compatible.
 */
#include "vmm/qemu/describe.h"

#include "base/cleanup.h"
#include "vmm/qemu/board.h"
#include "vmm/qemu/cpu.h"
#include "vmm/qemu/disks.h"
#include "vmm/qemu/internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

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

json_t *describe_devices(struct qmp *q, struct error *err) {
    CLEANUP_JSON json_t *all = json_array();
    struct device_list list = { .strings = all, .named = true };
    if (query_children(q, "/machine/peripheral", add_device, &list, err) != 0) {
        return NULL;
    }
    list.named = false;
    if (query_children(q, "/machine/peripheral-anon", add_device, &list, err) != 0) {
        return NULL;
    }
    return sorted(all);
}

int compare_devices(const json_t *a, const json_t *b, struct name_list *only_a, struct name_list *only_b) {
    size_t i = 0, k = 0, n = json_array_size(a), m = json_array_size(b);
    while (i < n || k < m) {
        char x[512], y[512];
        if (k < m && !query_string(json_array_get(b, k), y, sizeof(y))) {
            return -1;
        }
        query_string(json_array_get(a, i), x, sizeof(x));
        int order = i == n ? 1 : k == m ? -1 : strcmp(x, y);
        if (order != 0) {
            name_list_add(order < 0 ? only_a : only_b, order < 0 ? x : y);
        }
        i += order <= 0;
        k += order >= 0;
    }
    return 0;
}

static json_t *describe_ram(const struct vmm *vmm) {
    json_t *list = json_array();
    for (size_t i = 0; i < vmm->ram_count; i++) {
        const struct vmm_ram *r = &vmm->ram[i];
        if (r->guest) {
            json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "id", r->id, "size", (json_int_t)r->size,
                                                  "page-size", (json_int_t)r->page_size));
        }
    }
    return list;
}

int qemu_cpu_threads(struct vmm *vmm, pid_t **threads, size_t *count, struct error *err) {
    CLEANUP_JSON json_t *cpus = NULL;
    CLEANUP_FREE pid_t *ids = NULL;
    size_t i;
    json_t *cpu;
    if (qmp_execute(qemu_of(vmm)->qmp, "query-cpus-fast", NULL, &cpus, QMP_TIMEOUT, err) < 0) {
        return -1;
    }
    size_t n = json_array_size(cpus);
    ids = calloc(n > 0 ? n : 1, sizeof(*ids));
    if (ids == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the vCPU threads");
    }
    json_array_foreach(cpus, i, cpu) {
        json_int_t id = json_integer_value(json_object_get(cpu, "thread-id"));
        if (id <= 0 || id > INT_MAX) {
            return error_set(err, ERROR_VMM, "QEMU's answer to query-cpus-fast names no thread of vCPU %zu", i);
        }
        ids[i] = (pid_t)id;
    }
    /* QEMU counts in its own pid namespace */
    if (process_outer_threads(vmm->pid, ids, n, err) < 0) {
        return -1;
    }
    *threads = take_ptr(&ids);
    *count = n;
    return 0;
}

/* The number of vCPUs, the type of the first ("" where QEMU does not tell it) and what it can do. */
static json_t *describe_cpus(struct qemu *q, const json_t *cpus, char *type, size_t size, struct error *err) {
    const char *path = json_string_value(json_object_get(json_array_get(cpus, 0), "qom-path"));
    CLEANUP_JSON json_t *value = NULL;
    type[0] = '\0';
    if (path == NULL) {
        return json_object();
    }
    if (query_property(q->qmp, path, "type", &value, err) < 0) {
        return NULL;
    }
    query_string(value, type, size);
    return cpu_describe(q->qmp, path, err);
}

/* Everything that both ends compare; each part by the file that compares it. */
json_t *qemu_describe(struct vmm *vmm, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    char machine[128], cpu_type[128];
    CLEANUP_JSON json_t *cpus = NULL;
    if (query_property_string(q->qmp, "/machine", "type", machine, sizeof(machine), err) < 0 ||
        qmp_execute(q->qmp, "query-cpus-fast", NULL, &cpus, QMP_TIMEOUT, err) < 0) {
        return NULL;
    }
    if (json_array_size(cpus) == 0) {
        error_set(err, ERROR_VMM, "QEMU's answer to query-cpus-fast makes no sense");
        return NULL;
    }
    CLEANUP_JSON json_t *cpu = describe_cpus(q, cpus, cpu_type, sizeof(cpu_type), err);
    CLEANUP_JSON json_t *board = cpu != NULL ? board_describe(q->qmp, cpus, err) : NULL;
    CLEANUP_JSON json_t *disks = board != NULL ? disks_describe(q->qmp, err) : NULL;
    CLEANUP_JSON json_t *devices = disks != NULL ? describe_devices(q->qmp, err) : NULL;
    if (devices == NULL) {
        return NULL;
    }
    json_decref(q->described);
    q->described = json_pack("{s:O, s:O}", "devices", devices, "disks", disks);
    struct qmp_version v = qmp_version(q->qmp);
    json_t *d = json_pack("{s:s, s:[i,i,i], s:s, s:s, s:I, s:O, s:O, s:O, s:O, s:o, s:o}", "vmm", "qemu", "version",
                          v.major, v.minor, v.micro, "machine", machine, "cpu-type", cpu_type, "cpus",
                          (json_int_t)json_array_size(cpus), "devices", devices, "cpu", cpu, "board", board, "disks",
                          disks, "ram", describe_ram(vmm), "own-ram", qemu_describe_own(vmm));
    if (d == NULL) {
        error_set(err, ERROR_SYSTEM, "no memory to describe the guest");
    }
    return d;
}
