/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's RAM: QEMU's back ends, each taken by what it is (ram_kinds.h), and that together they are all of it.
 */
#include "base/cleanup.h"
#include "vmm/qemu/ram_kinds.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKENDS_MAX 256

static void free_block(struct vmm_ram *ram) {
    if (ram->fd >= 0) {
        close(ram->fd);
    }
    if (ram->origin >= 0) {
        close(ram->origin);
    }
    free(ram->ranges);
}

static void free_list(struct vmm_ram *ram, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free_block(&ram[i]);
    }
    free(ram);
}

void qemu_free_left(struct qemu *q) {
    free_list(q->save.left, q->save.left_count);
    q->save.left = NULL;
    q->save.left_count = 0;
}

void qemu_free_ram(struct vmm *vmm) {
    free_list(vmm->ram, vmm->ram_count);
    vmm->ram = NULL;
    vmm->ram_count = 0;
    qemu_free_left(qemu_of(vmm));
    look_forget_all(qemu_of(vmm));
}

struct vmm_ram *qemu_add_ram(struct qemu *q, const char *id, struct error *err) {
    struct vmm_ram *larger = reallocarray(q->vmm.ram, q->vmm.ram_count + 1, sizeof(*larger));
    if (larger == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory");
        return NULL;
    }
    q->vmm.ram = larger;
    struct vmm_ram *ram = &q->vmm.ram[q->vmm.ram_count++];
    *ram = (struct vmm_ram){ .fd = -1, .origin = -1 };
    snprintf(ram->id, sizeof(ram->id), "%s", id);
    return ram;
}

static void take_out(struct qemu *q, size_t i) {
    q->vmm.ram_count--;
    memmove(&q->vmm.ram[i], &q->vmm.ram[i + 1], (q->vmm.ram_count - i) * sizeof(*q->vmm.ram));
}

void qemu_drop_ram(struct qemu *q, size_t i) {
    look_forget(q, q->vmm.ram[i].id);
    free_block(&q->vmm.ram[i]);
    take_out(q, i);
}

int qemu_leave_ram(struct qemu *q, size_t i, struct error *err) {
    struct vmm_ram *larger = reallocarray(q->save.left, q->save.left_count + 1, sizeof(*larger));
    if (larger == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for %s", q->vmm.ram[i].id);
    }
    q->save.left = larger;
    q->save.left[q->save.left_count++] = q->vmm.ram[i];
    take_out(q, i);
    return 0;
}

struct search {
    struct qemu *q;
    struct findings *found;
    struct look *look; /* without addresses at first */
    size_t count;
};

/* ---- one back end ---- */

/* What the back end says of itself. */
struct backend {
    bool file, share;
    char mem_path[256]; /* of a file */
};

static int read_properties(struct qemu *q, struct vmm_ram *ram, const char *type, struct backend *b,
                           struct error *err) {
    char path[160];
    int64_t size, offset = 0;
    snprintf(path, sizeof(path), "/objects/%s", ram->id);
    b->file = strcmp(type, "memory-backend-file") == 0;
    if (query_property_bool(q->qmp, path, "share", &b->share, err) < 0 ||
        query_property_int(q->qmp, path, "size", &size, err) < 0 ||
        (b->file && (query_property_string(q->qmp, path, "mem-path", b->mem_path, sizeof(b->mem_path), err) < 0 ||
                     query_optional_int(q->qmp, path, "offset", 0, &offset, err) < 0))) {
        return -1;
    }
    if (offset != 0) {
        return error_set(err, ERROR_REFUSED,
                         "the RAM back end %s begins inside its file (offset=%" PRId64 "): give it a "
                         "file of its own",
                         ram->id, offset);
    }
    if (size <= 0) {
        return error_set(err, ERROR_VMM, "QEMU says that the RAM back end %s has %" PRId64 " bytes", ram->id, size);
    }
    ram->size = (uint64_t)size;
    return 0;
}

/* A named file is taken at once; what else there is needs an address. */
static int take_one(struct search *s, const char *id, const char *type, struct error *err) {
    struct backend b = { 0 };
    if (strlen(id) >= sizeof(((struct vmm_ram *)NULL)->id) || s->q->vmm.ram_count >= BACKENDS_MAX) {
        return error_set(err, ERROR_REFUSED, "too many RAM back ends, or too long an id: %s", id);
    }
    struct vmm_ram *ram = qemu_add_ram(s->q, id, err);
    if (ram == NULL) {
        return -1;
    }
    ram->guest = true;
    if (read_properties(s->q, ram, type, &b, err) == 0 &&
        (!b.file || !b.share || ram_take_named(s->q, ram, b.mem_path, s->look->maps, s->look->map_count, err) == 0)) {
        return 0;
    }
    qemu_drop_ram(s->q, s->q->vmm.ram_count - 1);
    return -1;
}

/* One child of /objects. Back ends are taken or refused; other objects are passed over. */
static int take_backend(void *opaque, const char *name, const char *type, struct error *err) {
    struct search *s = opaque;
    if (strncmp(type, "memory-backend-", 15) != 0) {
        return 0;
    }
    if (strcmp(type, "memory-backend-epc") == 0) {
        findings_refuse(s->found, "the guest has memory of an SGX enclave (%s), which cannot be read from outside",
                        name);
        return 0;
    }
    return findings_take(s->found, take_one(s, name, type, err), err);
}

static bool is_pending(const struct vmm_ram *ram) {
    return ram->range_count == 0;
}

/* Those without a name, now that the named ones are there to prove the addresses by. */
static int take_found(struct search *s, struct error *err) {
    size_t pending = 0;
    for (size_t i = 0; i < s->q->vmm.ram_count; i++) {
        pending += is_pending(&s->q->vmm.ram[i]);
    }
    if (pending == 0) {
        return 0;
    }
    look_close(s->look);
    if (look_open(s->q, s->look, err) < 0) {
        return -1;
    }
    for (size_t i = s->q->vmm.ram_count; i-- > 0;) {
        struct vmm_ram *ram = &s->q->vmm.ram[i];
        if (!is_pending(ram) || ram_take_found(s->q, ram, s->look, err) == 0) {
            continue;
        }
        qemu_drop_ram(s->q, i);
        if (findings_take(s->found, -1, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- all of it ---- */

/* What a back end counts in QEMU's sum: all of it, but of one that a virtio-mem device has what is plugged in. */
static uint64_t counted(const struct vmm_ram *ram, const json_t *devices) {
    size_t i;
    json_t *device;
    json_array_foreach(devices, i, device) {
        const json_t *data = json_object_get(device, "data");
        const char *type = json_string_value(json_object_get(device, "type"));
        const char *memdev = json_string_value(json_object_get(data, "memdev"));
        const char *name = memdev != NULL ? strrchr(memdev, '/') : NULL;
        int64_t size = 0;
        if (type != NULL && strcmp(type, "virtio-mem") == 0 && name != NULL && strcmp(name + 1, ram->id) == 0 &&
            query_int(json_object_get(data, "size"), &size) && size >= 0) {
            return (uint64_t)size;
        }
    }
    return ram->size;
}

/* RAM that is in no back end would stay behind. */
static int check_total(struct qemu *q, struct error *err) {
    CLEANUP_JSON json_t *answer = NULL;
    CLEANUP_JSON json_t *devices = NULL;
    int64_t base = 0, plugged = 0;
    uint64_t found = 0;
    if (query_if_known(q->qmp, "query-memory-devices", NULL, &devices, err) < 0 ||
        qmp_execute(q->qmp, "query-memory-size-summary", NULL, &answer, QMP_TIMEOUT, err) < 0) {
        return -1;
    }
    query_int(json_object_get(answer, "base-memory"), &base);
    query_int(json_object_get(answer, "plugged-memory"), &plugged);
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        found += counted(&q->vmm.ram[i], devices);
    }
    if (base > 0 && plugged >= 0 && found == (uint64_t)base + (uint64_t)plugged) {
        return 0;
    }
    return error_set(err, ERROR_REFUSED,
                     "the guest has %" PRId64 " bytes of RAM (and %" PRId64
                     " plugged in), but its RAM back ends have %" PRIu64
                     ": all of it must be in them, and nothing else (remove what no device uses)",
                     base, plugged, found);
}

int qemu_ram_by_id(const void *a, const void *b) {
    return strcmp(((const struct vmm_ram *)a)->id, ((const struct vmm_ram *)b)->id);
}

static int find_all(struct search *s, struct error *err) {
    size_t refused = json_array_size(s->found->refusals);
    if (process_mappings(s->q->vmm.pid, &s->look->maps, &s->look->map_count, err) < 0 ||
        query_children(s->q->qmp, "/objects", take_backend, s, err) != 0 || take_found(s, err) < 0) {
        return -1;
    }
    /* when a back end was refused the sum is wrong for that reason */
    return json_array_size(s->found->refusals) == refused ? findings_take(s->found, check_total(s->q, err), err) : 0;
}

int qemu_find_ram(struct qemu *q, struct findings *found, struct error *err) {
    struct look look CLEANUP_LOOK = LOOK_CLOSED;
    struct search s = { .q = q, .found = found, .look = &look };
    qemu_free_ram(&q->vmm);
    if (find_all(&s, err) < 0) {
        qemu_free_ram(&q->vmm);
        return -1;
    }
    if (q->vmm.ram_count > 0) {
        qsort(q->vmm.ram, q->vmm.ram_count, sizeof(*q->vmm.ram), qemu_ram_by_id); /* the same order at both ends */
    }
    return 0;
}

/* Counts a back end that was inspected; stops at one that was not. */
static int count_backend(void *opaque, const char *name, const char *type, struct error *err) {
    struct search *s = opaque;
    if (strncmp(type, "memory-backend-", 15) != 0) {
        return 0;
    }
    for (size_t i = 0; i < s->q->vmm.ram_count; i++) {
        if (s->q->vmm.ram[i].guest && strcmp(s->q->vmm.ram[i].id, name) == 0) {
            s->count++;
            return 0;
        }
    }
    return error_set(err, ERROR_REFUSED, "RAM (%s) was plugged into the guest meanwhile", name);
}

int qemu_check_ram(struct qemu *q, bool others, struct error *err) {
    struct search s = { .q = q };
    CLEANUP_FREE struct mapping *maps = NULL;
    size_t count, guest = 0;
    if (process_mappings(q->vmm.pid, &maps, &count, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        const struct vmm_ram *ram = &q->vmm.ram[i];
        guest += ram->guest;
        if (ram->kind != VMM_RAM_FILE) {
            continue; /* qemu_check_memory() looks at it */
        }
        if (!ram_has_same_ranges(ram, maps, count)) {
            return error_set(err, ERROR_REFUSED, "QEMU has mapped the RAM back end %s anew meanwhile", ram->id);
        }
        if (others && ram_check_other_mapper(q, ram, err) < 0) {
            return -1;
        }
    }
    if (query_children(q->qmp, "/objects", count_backend, &s, err) != 0) {
        return -1;
    }
    return s.count == guest ? 0 : error_set(err, ERROR_REFUSED, "RAM was unplugged from the guest meanwhile");
}
