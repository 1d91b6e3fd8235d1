/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's own RAM blocks: video RAM, option ROMs, flash, ACPI tables. They lie in no file, but in memory of its process,
 * and go as the guest's RAM does when both ends have them; else they come with the device state, as QEMU does it.
 *
 *   "info ramblock"  ──► id, size, address (since 8.2; before, heap.h)
 *   /proc/PID/maps   ──► one private, anonymous, writable mapping that holds all of it, or it is left to QEMU
 *
 * Is it right to read and write there? QEMU tells the address and is not trusted; but it is an address in the process
 * itself, in memory that is private to it and that it may write: whatever it names, and whatever it maps there by the
 * time that we write, it harms nobody else by it. What a *guest* could make up is another matter (heap.h): no address
 * is believed unless the RAM back ends, of which the addresses are known from their files, are found by the same way
 * where they are.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/qemu/heap.h"
#include "vmm/qemu/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OWN_MAX 256
#define PAGE 4096u
/* Less than this QEMU may send in the pause without a word: it takes 20 ms of a link of 1 Gbit/s. */
#define LARGE (UINT64_C(2) << 20)

struct look {
    struct ramblock *blocks;
    size_t count;
    struct mapping *maps;
    size_t map_count;
};

static void cleanup_look(struct look *l) {
    free(l->blocks);
    free(l->maps);
}

#define CLEANUP_LOOK __attribute__((cleanup(cleanup_look)))

/* ---- where they are ---- */

/* -1: it may not be looked at, and all is left to QEMU. */
static int open_memory(const struct qemu *q) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)q->vmm.pid);
    int fd = open(path, (q->side == VMM_SOURCE ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (fd < 0) {
        log_info("cannot open %s: %s", path, strerror(errno));
    }
    return fd;
}

/* The RAM back end that a host address belongs to; NULL: none. */
static const struct vmm_ram *backend_at(const struct qemu *q, uint64_t host) {
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        const struct vmm_ram *r = &q->vmm.ram[i];
        for (size_t k = 0; r->kind == VMM_RAM_FILE && k < r->range_count; k++) {
            if (host >= r->ranges[k].start && host < r->ranges[k].end) {
                return r;
            }
        }
    }
    return NULL;
}

static bool is_named_as(const struct ramblock *b, const struct vmm_ram *r) {
    static const char objects[] = "/objects/";
    const char *id = strncmp(b->id, objects, sizeof(objects) - 1) == 0 ? b->id + sizeof(objects) - 1 : b->id;
    return strcmp(id, r->id) == 0;
}

/* Whether the block is listed where the file of the back end of its name is mapped from its beginning. */
static bool is_where_it_is(const struct ramblock *b, const struct vmm_ram *r) {
    for (size_t k = 0; k < r->range_count; k++) {
        if (r->ranges[k].offset == 0 && r->ranges[k].start == b->host) {
            return is_named_as(b, r) && b->used == r->size;
        }
    }
    return false;
}

static bool is_proved(const struct qemu *q, const struct look *l) {
    size_t proved = 0, files = 0;
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        files += q->vmm.ram[i].kind == VMM_RAM_FILE;
    }
    for (size_t i = 0; i < l->count; i++) {
        const struct vmm_ram *r = backend_at(q, l->blocks[i].host);
        proved += r != NULL && is_where_it_is(&l->blocks[i], r);
    }
    return files > 0 && proved == files;
}

/* Lists the blocks, with their addresses where those are known and proved. `memory` was opened before: a QEMU that
 * answers now was alive then, so it is its memory and not that of a process that has its id since. */
static int look_at(struct qemu *q, int memory, struct look *l, struct error *err) {
    if (ramblock_list(q->qmp, &l->blocks, &l->count, err) < 0 ||
        process_mappings(q->vmm.pid, &l->maps, &l->map_count, err) < 0) {
        return -1;
    }
    bool told = memory < 0;
    for (size_t i = 0; i < l->count; i++) {
        told = told || l->blocks[i].host != 0;
    }
    if (!told && heap_find(memory, l->maps, l->map_count, l->blocks, l->count, err) < 0) {
        return -1;
    }
    bool proved = memory >= 0 && is_proved(q, l);
    for (size_t i = 0; !proved && i < l->count; i++) {
        l->blocks[i].host = l->blocks[i].record = 0;
    }
    return 0;
}

/* ---- taking them ---- */

/* One mapping that is the process's own, of no file, holds all of it. */
static bool is_private(const struct ramblock *b, const struct mapping *maps, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct mapping *m = &maps[i];
        if (b->host >= m->start && b->host < m->end) {
            return m->end - b->host >= b->used && !m->shared && m->inode == 0 && m->readable && m->writable;
        }
    }
    return false;
}

/* A name or memory that another block has too. */
static bool is_taken(const struct qemu *q, const struct ramblock *b) {
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        const struct vmm_ram *r = &q->vmm.ram[i];
        bool overlaps = r->kind == VMM_RAM_OWN && b->host < r->ranges[0].end && r->ranges[0].start < b->host + b->used;
        if (overlaps || strcmp(r->id, b->id) == 0) {
            return true;
        }
    }
    return false;
}

static bool can_go(const struct qemu *q, const struct look *l, const struct ramblock *b) {
    return b->host != 0 && b->host % PAGE == 0 && b->used % PAGE == 0 &&
           strlen(b->id) < sizeof(((struct vmm_ram *)NULL)->id) && is_private(b, l->maps, l->map_count) &&
           !is_taken(q, b);
}

static int take(struct qemu *q, int memory, const struct ramblock *b, struct error *err) {
    struct ramblock *larger = reallocarray(q->own, q->own_count + 1, sizeof(*larger));
    if (larger == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for %s", b->id);
    }
    q->own = larger;
    struct vmm_ram *ram = qemu_add_ram(q, b->id, err);
    if (ram == NULL) {
        return -1;
    }
    q->own[q->own_count++] = *b;
    ram->kind = VMM_RAM_OWN;
    ram->size = b->used;
    ram->page_size = PAGE;
    ram->ranges = malloc(sizeof(*ram->ranges));
    ram->fd = fcntl(memory, F_DUPFD_CLOEXEC, 0);
    if (ram->ranges == NULL || ram->fd < 0) {
        return error_errno(err, ERROR_SYSTEM, "no memory or descriptor for %s", b->id);
    }
    ram->ranges[0] = (struct vmm_ram_range){ b->host, b->host + b->used, 0 };
    ram->range_count = 1;
    return 0;
}

static bool is_backend(const struct qemu *q, const struct ramblock *b) {
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        if (q->vmm.ram[i].kind == VMM_RAM_FILE && is_named_as(b, &q->vmm.ram[i])) {
            return true;
        }
    }
    return backend_at(q, b->host) != NULL;
}

/* Blocks without a name are none that QEMU migrates. */
static int take_all(struct qemu *q, int memory, const struct look *l, struct findings *found, struct error *err) {
    size_t files = q->vmm.ram_count;
    for (size_t i = 0; i < l->count; i++) {
        const struct ramblock *b = &l->blocks[i];
        if (b->used == 0 || is_backend(q, b)) {
            continue;
        }
        if (q->vmm.ram_count - files < OWN_MAX && can_go(q, l, b)) {
            if (take(q, memory, b, err) < 0) {
                return -1;
            }
        } else if (b->used >= LARGE && found != NULL) {
            findings_remark(found,
                            "%" PRIu64 " MiB of RAM that QEMU owns itself (%s) cannot be reached from outside: QEMU "
                            "sends them, the last of it while the guest stands still",
                            b->used >> 20, b->id);
        }
    }
    if (q->vmm.ram_count > files) { /* the same order at both ends */
        qsort(q->vmm.ram + files, q->vmm.ram_count - files, sizeof(*q->vmm.ram), qemu_ram_by_id);
    }
    return 0;
}

/* Takes block i out of vmm->ram. */
static void drop(struct qemu *q, size_t i) {
    if (q->vmm.ram[i].fd >= 0) {
        close(q->vmm.ram[i].fd);
    }
    free(q->vmm.ram[i].ranges);
    q->vmm.ram_count--;
    memmove(&q->vmm.ram[i], &q->vmm.ram[i + 1], (q->vmm.ram_count - i) * sizeof(*q->vmm.ram));
}

static void drop_all(struct qemu *q) {
    while (q->vmm.ram_count > 0 && q->vmm.ram[q->vmm.ram_count - 1].kind == VMM_RAM_OWN) {
        drop(q, q->vmm.ram_count - 1);
    }
    free(q->own);
    q->own = NULL;
    q->own_count = 0;
}

int qemu_find_own(struct qemu *q, struct findings *found, struct error *err) {
    struct look l CLEANUP_LOOK = { 0 };
    drop_all(q);
    CLEANUP_CLOSE int memory = open_memory(q);
    if (look_at(q, memory, &l, err) < 0) {
        return -1;
    }
    q->all_ram = 0;
    for (size_t i = 0; i < l.count; i++) {
        q->all_ram += l.blocks[i].used;
    }
    return take_all(q, memory, &l, found, err);
}

/* ---- whether they are still there ---- */

static bool is_same(const struct ramblock *now, const struct ramblock *then, int memory) {
    return strcmp(now->id, then->id) == 0 && now->offset == then->offset && now->used == then->used &&
           (then->record != 0 ? heap_holds(memory, then) : now->host == then->host);
}

static const struct ramblock *record_of(const struct qemu *q, const char *id) {
    for (size_t i = 0; i < q->own_count; i++) {
        if (strcmp(q->own[i].id, id) == 0) {
            return &q->own[i];
        }
    }
    return NULL;
}

static bool is_there(const struct qemu *q, const struct vmm_ram *r, const struct look *l) {
    const struct ramblock *then = record_of(q, r->id);
    for (size_t i = 0; then != NULL && i < l->count; i++) {
        if (is_same(&l->blocks[i], then, r->fd)) {
            return is_private(then, l->maps, l->map_count);
        }
    }
    return false;
}

int qemu_check_own(struct qemu *q, struct error *err) {
    struct look l CLEANUP_LOOK = { 0 };
    if (q->vmm.ram_count == 0 || q->vmm.ram[q->vmm.ram_count - 1].kind != VMM_RAM_OWN) {
        return 0;
    }
    if (ramblock_list(q->qmp, &l.blocks, &l.count, err) < 0 ||
        process_mappings(q->vmm.pid, &l.maps, &l.map_count, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        const struct vmm_ram *r = &q->vmm.ram[i];
        if (r->kind == VMM_RAM_OWN && !is_there(q, r, &l)) {
            return error_set(err, ERROR_REFUSED, "QEMU has its own RAM %s in another place or size meanwhile", r->id);
        }
    }
    return 0;
}

/* ---- which of them go: both sides or neither ---- */

json_t *qemu_describe_own(const struct vmm *vmm) {
    json_t *list = json_array();
    for (size_t i = 0; i < vmm->ram_count; i++) {
        const struct vmm_ram *r = &vmm->ram[i];
        if (r->kind == VMM_RAM_OWN) {
            json_array_append_new(list, json_pack("{s:s, s:I}", "id", r->id, "size", (json_int_t)r->size));
        }
    }
    return list;
}

static void tell_left(const struct vmm_ram *r) {
    if (r->size >= LARGE) {
        log_warning("%" PRIu64 " MiB of RAM that QEMU owns itself (%s) are not found in the same size at both ends: "
                    "QEMU sends them, the last of it while the guest stands still",
                    r->size >> 20, r->id);
    }
}

/* Whether the other side names it. Items are strings, or objects with a size, which must be ours then. */
static bool is_named(const json_t *list, const struct vmm_ram *r) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        const json_t *id = json_is_object(item) ? json_object_get(item, "id") : item;
        const char *text = json_string_value(id);
        if (text != NULL && strcmp(text, r->id) == 0) {
            return !json_is_object(item) || json_integer_value(json_object_get(item, "size")) == (json_int_t)r->size;
        }
    }
    return false;
}

static void keep_named(struct qemu *q, const json_t *list) {
    for (size_t i = q->vmm.ram_count; i-- > 0 && q->vmm.ram[i].kind == VMM_RAM_OWN;) {
        if (!is_named(list, &q->vmm.ram[i])) {
            tell_left(&q->vmm.ram[i]);
            drop(q, i);
        }
    }
}

json_t *qemu_agree(struct vmm *vmm, const json_t *source, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    /* it may have been inspected long ago */
    if (qemu_find_own(q, NULL, err) < 0) {
        return NULL;
    }
    keep_named(q, json_object_get(source, "own-ram"));
    json_t *ids = json_array();
    for (size_t i = 0; i < vmm->ram_count; i++) {
        if (vmm->ram[i].kind == VMM_RAM_OWN) {
            json_array_append_new(ids, json_string(vmm->ram[i].id));
        }
    }
    return ids;
}

int qemu_adopt(struct vmm *vmm, const json_t *ids, struct error *err) {
    size_t kept = 0;
    keep_named(qemu_of(vmm), ids);
    for (size_t i = 0; i < vmm->ram_count; i++) {
        kept += vmm->ram[i].kind == VMM_RAM_OWN;
    }
    /* the two sides count blocks alike, or pages would go to the wrong one */
    return kept == json_array_size(ids) ? 0
                                        : error_set(err, ERROR_PEER,
                                                    "the destination names RAM of QEMU's own that it "
                                                    "was not offered, or names it twice");
}
