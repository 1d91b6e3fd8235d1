/* SPDX-License-Identifier: Apache-2.0 */
#include "qom.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPU_TYPE "qemu64-x86_64-cpu"

static void add_property(json_t *list, const char *name, const char *type) {
    json_array_append_new(list, json_pack("{s:s, s:s}", "name", name, "type", type));
}

static void add_child(json_t *list, const char *name, const char *type) {
    json_array_append_new(list, json_pack("{s:s, s:o}", "name", name, "type", json_sprintf("child<%s>", type)));
}

static void list_objects(const struct machine *machine, json_t *list) {
    for (size_t i = 0; i < machine->memory.count; i++) {
        const struct ram *ram = &machine->memory.rams[i];
        add_child(list, ram->id, ram->own ? "memory-backend-ram" : "memory-backend-file");
    }
    for (size_t i = 0; i < machine->options.object_count; i++) {
        add_child(list, machine->options.objects[i].id, machine->options.objects[i].type);
    }
}

static void list_peripherals(const struct machine *machine, json_t *list) {
    for (size_t i = 0; i < machine->options.device_count; i++) {
        add_child(list, machine->options.devices[i].id, machine->options.devices[i].type);
    }
}

static void list_unattached(const struct machine *machine, json_t *list) {
    for (unsigned i = 0; i < machine->dirty.count; i++) {
        char name[32];
        snprintf(name, sizeof(name), "device[%u]", i);
        add_child(list, name, CPU_TYPE);
    }
}

static void list_machine(const struct machine *machine, json_t *list) {
    (void)machine;
    add_property(list, "memory-backend", "link<memory-backend>");
    add_child(list, "peripheral", "container");
    add_child(list, "peripheral-anon", "container");
    add_child(list, "unattached", "container");
}

static void list_nothing(const struct machine *machine, json_t *list) {
    (void)machine;
    (void)list;
}

static const struct {
    const char *path;
    void (*list)(const struct machine *machine, json_t *list);
} containers[] = {
    { "/objects", list_objects },
    { "/machine", list_machine },
    { "/machine/peripheral", list_peripherals },
    { "/machine/peripheral-anon", list_nothing },
    { "/machine/unattached", list_unattached },
};

static json_t *feature_word(unsigned eax, const char *reg, json_int_t bits) {
    return json_pack("{s:s, s:I, s:I}", "cpuid-register", reg, "cpuid-input-eax", (json_int_t)eax, "features", bits);
}

/* A qemu64: what of it is looked at. */
static json_t *cpu_object(void) {
    json_t *words = json_pack("[o, o, o]", feature_word(1, "EDX", 126614525), feature_word(1, "ECX", 2155880449),
                              feature_word(0x80000001, "EDX", 563346429));
    return json_pack("{s:s, s:s, s:i, s:o}", "type", CPU_TYPE, "vendor", "AuthenticAMD", "phys-bits", 40,
                     "feature-words", words);
}

static json_t *machine_object(const struct machine *machine) {
    json_int_t size = (json_int_t)(machine->memory.pages * STUNT_PAGE);
    int cpus = (int)machine->dirty.count;
    return json_pack("{s:s, s:b, s:b, s:s, s:{s:I, s:i, s:I}, s:{s:i, s:i, s:i, s:i, s:i}}", "type",
                     machine->options.machine, "usb", 0, "hpet", 1, "smm", "auto", "memory", "size", size, "slots", 0,
                     "max-size", size, "smp", "cpus", cpus, "maxcpus", cpus, "sockets", 1, "cores", cpus, "threads", 1);
}

/* The properties of one object, {name: value}, by its path; NULL when there is none. A new reference. */
static json_t *find_object(const struct machine *machine, const char *path) {
    char name[128];
    for (size_t i = 0; i < machine->memory.count; i++) {
        const struct ram *ram = &machine->memory.rams[i];
        snprintf(name, sizeof(name), "/objects/%s", ram->id);
        if (strcmp(name, path) == 0) {
            if (ram->own) {
                return json_pack("{s:s, s:b, s:I, s:b, s:b, s:b}", "type", "memory-backend-ram", "share", 0, "size",
                                 (json_int_t)ram->size, "prealloc", 0, "merge", 1, "dump", 1);
            }
            return json_pack("{s:s, s:b, s:I, s:s, s:b, s:b, s:b, s:b}", "type", "memory-backend-file", "share",
                             !machine->options.private_ram, "size", (json_int_t)ram->size, "mem-path", ram->path,
                             "prealloc", 0, "merge", 1, "dump", 1, "discard-data", 0);
        }
    }
    for (size_t i = 0; i < machine->options.object_count; i++) {
        const struct extra *extra = &machine->options.objects[i];
        snprintf(name, sizeof(name), "/objects/%s", extra->id);
        if (strcmp(name, path) == 0) {
            return json_pack("{s:s, s:b, s:i}", "type", extra->type, "share", 1, "size", 1 << 20);
        }
    }
    for (size_t i = 0; i < machine->options.device_count; i++) {
        const struct extra *extra = &machine->options.devices[i];
        snprintf(name, sizeof(name), "/machine/peripheral/%s", extra->id);
        if (strcmp(name, path) == 0) {
            return json_pack("{s:s}", "type", extra->type);
        }
    }
    for (unsigned i = 0; i < machine->dirty.count; i++) {
        snprintf(name, sizeof(name), "/machine/unattached/device[%u]", i);
        if (strcmp(name, path) == 0) {
            return cpu_object();
        }
    }
    return strcmp(path, "/machine") == 0 ? machine_object(machine) : NULL;
}

json_t *qom_list(const struct machine *machine, const char *path, struct error *err) {
    json_t *list = json_array();
    add_property(list, "type", "string");
    for (size_t i = 0; i < sizeof(containers) / sizeof(containers[0]); i++) {
        if (strcmp(containers[i].path, path) == 0) {
            containers[i].list(machine, list);
            return list;
        }
    }
    json_t *object = find_object(machine, path);
    if (object == NULL) {
        json_decref(list);
        error_set(err, ERROR_REFUSED, "Device '%s' not found", path);
        return NULL;
    }
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value) {
        if (strcmp(name, "type") != 0) {
            add_property(list, name, json_is_boolean(value) ? "bool" : json_is_integer(value) ? "int" : "string");
        }
    }
    json_decref(object);
    return list;
}

json_t *qom_get(const struct machine *machine, const char *path, const char *property, struct error *err) {
    json_t *object = find_object(machine, path);
    if (object == NULL) {
        error_set(err, ERROR_REFUSED, "Device '%s' not found", path);
        return NULL;
    }
    json_t *value = json_incref(json_object_get(object, property));
    if (value == NULL) {
        error_set(err, ERROR_VMM, "Property '%s.%s' not found", json_string_value(json_object_get(object, "type")),
                  property);
    }
    json_decref(object);
    return value;
}

static void add_memdev(json_t *list, const char *id, bool share, uint64_t size) {
    json_array_append_new(list, json_pack("{s:b, s:b, s:b, s:[], s:I, s:b, s:b, s:s, s:s}", "share", share, "reserve",
                                          1, "prealloc", 0, "host-nodes", "size", (json_int_t)size, "merge", 1, "dump",
                                          1, "policy", "default", "id", id));
}

json_t *qom_memdevs(const struct machine *machine) {
    json_t *list = json_array();
    for (size_t i = 0; i < machine->memory.count; i++) {
        const struct ram *ram = &machine->memory.rams[i];
        add_memdev(list, ram->id, !machine->options.private_ram && !ram->own, ram->size);
    }
    for (size_t i = 0; i < machine->options.object_count; i++) {
        if (strncmp(machine->options.objects[i].type, "memory-backend-", 15) == 0) {
            add_memdev(list, machine->options.objects[i].id, true, 1 << 20);
        }
    }
    return list;
}

static json_t *cpu_place(unsigned index) {
    return json_pack("{s:i, s:i, s:i}", "core-id", (int)index, "thread-id", 0, "socket-id", 0);
}

json_t *qom_cpus(const struct machine *machine) {
    json_t *list = json_array();
    for (unsigned i = 0; i < machine->dirty.count; i++) {
        json_array_append_new(list, json_pack("{s:i, s:o, s:o, s:i, s:s}", "thread-id",
                                              (int)machine->dirty.threads[i].tid, "props", cpu_place(i), "qom-path",
                                              json_sprintf("/machine/unattached/device[%u]", i), "cpu-index", (int)i,
                                              "target", "x86_64"));
    }
    return list;
}

json_t *qom_hotpluggable_cpus(const struct machine *machine) {
    json_t *list = json_array();
    for (unsigned i = machine->dirty.count; i-- > 0;) {
        json_array_append_new(list,
                              json_pack("{s:o, s:i, s:o, s:s}", "props", cpu_place(i), "vcpus-count", 1, "qom-path",
                                        json_sprintf("/machine/unattached/device[%u]", i), "type", CPU_TYPE));
    }
    return list;
}

/* Only what lies in no file is listed: a QEMU before 8.2 tells no address of any. */
json_t *qom_ram_blocks(const struct machine *machine) {
    char text[4096];
    size_t n = 0;
    uint64_t offset = 0;
    text[0] = '\0';
    for (size_t i = 0; i < machine->memory.count && n < sizeof(text); i++) {
        const struct ram *ram = &machine->memory.rams[i];
        if (ram->own) {
            n += (size_t)snprintf(text + n, sizeof(text) - n,
                                  "%24s    4 KiB  0x%016llx 0x%016llx 0x%016llx 0x%016llx  rw\r\n", ram->id,
                                  (unsigned long long)offset, (unsigned long long)ram->size,
                                  (unsigned long long)ram->size, (unsigned long long)(uintptr_t)ram->map);
        }
        offset += ram->size;
    }
    return json_string(text);
}

/* "gpa2hva ADDRESS": the first block begins at 0. */
json_t *qom_host_address(const struct machine *machine, const char *address) {
    const struct ram *ram = &machine->memory.rams[0];
    uint64_t at = strtoull(address, NULL, 0);
    if (at >= ram->size) {
        return json_string("No memory is mapped at this address\r\n");
    }
    return json_sprintf("Host virtual address for 0x%llx (%s) is %p\r\n", (unsigned long long)at, ram->id,
                        (void *)(ram->map + at));
}
