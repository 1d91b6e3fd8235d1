/* SPDX-License-Identifier: Apache-2.0 */
/* The source's description against the destination's own. What the source says is as little trusted as any peer. */
#include "vmm/qemu/board.h"
#include "vmm/qemu/cpu.h"
#include "vmm/qemu/describe.h"
#include "vmm/qemu/disks.h"
#include "vmm/qemu/internal.h"

#include <string.h>

#define TEXT_MAX 256

/* A member of the source's description as text, cut and made printable. */
static int peer_string(const json_t *object, const char *key, char *text, struct error *err) {
    if (query_string(json_object_get(object, key), text, TEXT_MAX)) {
        return 0;
    }
    return error_set(err, ERROR_PEER, "the source's description of its guest has no %s", key);
}

static int peer_int(const json_t *object, const char *key, int64_t *n, struct error *err) {
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *n = json_integer_value(value);
        return 0;
    }
    return error_set(err, ERROR_PEER, "the source's description of its guest has no %s", key);
}

static int match_string(const json_t *ours, const json_t *theirs, const char *key, const char *what, struct findings *f,
                        struct error *err) {
    char here[TEXT_MAX], there[TEXT_MAX];
    query_string(json_object_get(ours, key), here, sizeof(here));
    if (peer_string(theirs, key, there, err) < 0) {
        return -1;
    }
    if (strcmp(here, there) != 0) {
        findings_refuse(f, "the source's %s is %s and the destination's is %s", what, there, here);
    }
    return 0;
}

static int match_cpus(const json_t *ours, const json_t *theirs, struct findings *f, struct error *err) {
    int64_t there;
    int64_t here = json_integer_value(json_object_get(ours, "cpus"));
    if (peer_int(theirs, "cpus", &there, err) < 0) {
        return -1;
    }
    if (here != there) {
        findings_refuse(f, "the source has %lld vCPUs and the destination has %lld", (long long)there, (long long)here);
    }
    /* a QEMU that does not tell the type says "" */
    const char *type = json_string_value(json_object_get(ours, "cpu-type"));
    const char *other = json_string_value(json_object_get(theirs, "cpu-type"));
    if (type == NULL || other == NULL || *type == '\0' || *other == '\0') {
        return 0;
    }
    return match_string(ours, theirs, "cpu-type", "CPU type", f, err);
}

static const json_t *find_ram(const json_t *list, const char *id) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        const char *found = json_string_value(json_object_get(item, "id"));
        if (found != NULL && strcmp(found, id) == 0) {
            return item;
        }
    }
    return NULL;
}

static int match_one_ram(const struct vmm_ram *here, const json_t *there, struct findings *f, struct error *err) {
    int64_t size, page_size;
    if (there == NULL) {
        findings_refuse(f, "the destination's RAM back end %s is not at the source", here->id);
        return 0;
    }
    if (peer_int(there, "size", &size, err) < 0 || peer_int(there, "page-size", &page_size, err) < 0) {
        return -1;
    }
    if ((uint64_t)size != here->size) {
        findings_refuse(f, "the RAM back end %s has %lld bytes at the source and %llu at the destination", here->id,
                        (long long)size, (unsigned long long)here->size);
    }
    if ((uint64_t)page_size != here->page_size) {
        findings_refuse(f, "the RAM back end %s has pages of %lld bytes at the source and of %llu at the destination",
                        here->id, (long long)page_size, (unsigned long long)here->page_size);
    }
    return 0;
}

static bool has_ram(const struct vmm *vmm, const char *id) {
    for (size_t i = 0; i < vmm->ram_count; i++) {
        if (vmm->ram[i].guest && strcmp(vmm->ram[i].id, id) == 0) {
            return true;
        }
    }
    return false;
}

static int match_ram(const struct vmm *vmm, const json_t *theirs, struct findings *f, struct error *err) {
    const json_t *list = json_object_get(theirs, "ram");
    if (!json_is_array(list)) {
        return error_set(err, ERROR_PEER, "the source's description of its guest has no ram");
    }
    for (size_t i = 0; i < vmm->ram_count; i++) {
        if (vmm->ram[i].guest && match_one_ram(&vmm->ram[i], find_ram(list, vmm->ram[i].id), f, err) < 0) {
            return -1;
        }
    }
    size_t k, found = 0;
    json_t *item;
    json_array_foreach(list, k, item) {
        char id[TEXT_MAX];
        if (peer_string(item, "id", id, err) < 0) {
            return -1;
        }
        if (has_ram(vmm, id)) {
            found++;
        } else {
            findings_refuse(f, "the source's RAM back end %s is not at the destination", id);
        }
    }
    return found <= vmm->ram_count ? 0 : error_set(err, ERROR_PEER, "the source names a RAM back end twice");
}

static int match_devices(const json_t *ours, const json_t *theirs, struct findings *f, struct error *err) {
    const json_t *there = json_object_get(theirs, "devices");
    struct name_list at_source = { 0 }, at_destination = { 0 };
    if (!json_is_array(there) || json_array_size(there) > DEVICES_MAX) {
        return error_set(err, ERROR_PEER, "the source's description of its guest has no list of devices");
    }
    if (compare_devices(json_object_get(ours, "devices"), there, &at_source, &at_destination) < 0) {
        return error_set(err, ERROR_PEER, "the source's list of devices makes no sense");
    }
    if (at_source.used > 0 || at_destination.used > 0) {
        findings_refuse(f, "the devices differ: the destination lacks [%s], the source lacks [%s]", at_destination.text,
                        at_source.text);
    }
    return 0;
}

static void match_version(struct qemu *q, const json_t *theirs, struct findings *f) {
    const json_t *version = json_object_get(theirs, "version");
    struct qmp_version v = qmp_version(q->qmp);
    json_int_t major = json_integer_value(json_array_get(version, 0));
    json_int_t minor = json_integer_value(json_array_get(version, 1));
    if (major > v.major || (major == v.major && minor > v.minor)) {
        findings_remark(f,
                        "the destination QEMU %d.%d is older than the source's %lld.%lld: it may not understand the "
                        "device state",
                        v.major, v.minor, (long long)major, (long long)minor);
    }
}

int qemu_match(struct vmm *vmm, json_t *source, struct findings *f, struct error *err) {
    CLEANUP_JSON json_t *ours = qemu_describe(vmm, err);
    if (ours == NULL) {
        return -1;
    }
    if (match_string(ours, source, "vmm", "VMM", f, err) < 0 ||
        match_string(ours, source, "machine", "machine type", f, err) < 0 || match_cpus(ours, source, f, err) < 0 ||
        match_ram(vmm, source, f, err) < 0 || match_devices(ours, source, f, err) < 0) {
        return -1;
    }
    cpu_match(json_object_get(ours, "cpu"), json_object_get(source, "cpu"), f);
    board_match(json_object_get(ours, "board"), json_object_get(source, "board"), f);
    disks_match(json_object_get(ours, "disks"), json_object_get(source, "disks"), f);
    match_version(qemu_of(vmm), source, f);
    return 0;
}
