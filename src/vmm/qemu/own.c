/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's own RAM blocks: video RAM, option ROMs, flash, ACPI tables. They lie in no file, but in memory of its process,
 * and go as the guest's RAM does when both ends have them; else they come with the device state, as QEMU does it. Each
 * is one private, anonymous, writable stretch of the process (look.h), or it is left to QEMU.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/qemu/internal.h"
#include "vmm/qemu/ram_kinds.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define OWN_MAX 256
/* Less than this QEMU may send in the pause without a word: it takes 20 ms of a link of 1 Gbit/s. */
#define LARGE (UINT64_C(2) << 20)

/* ---- taking them ---- */

/* A name or memory that another block has too. */
static bool is_taken(const struct qemu *q, const struct ramblock *b) {
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        const struct vmm_ram *r = &q->vmm.ram[i];
        bool overlaps =
            r->kind == VMM_RAM_MEMORY && b->host < r->ranges[0].end && r->ranges[0].start < b->host + b->used;
        if (overlaps || strcmp(r->id, b->id) == 0) {
            return true;
        }
    }
    return false;
}

static bool can_go(const struct qemu *q, const struct look *l, const struct ramblock *b) {
    const struct mapping *first;
    return b->host != 0 && b->host % RAM_SMALL_PAGE == 0 && b->used % RAM_SMALL_PAGE == 0 &&
           strlen(b->id) < sizeof(((struct vmm_ram *)NULL)->id) &&
           look_at(l, b->host, b->used, &first) == LOOK_ANONYMOUS && !is_taken(q, b);
}

static int take(struct qemu *q, const struct look *l, const struct ramblock *b, struct error *err) {
    struct vmm_ram *ram = qemu_add_ram(q, b->id, err);
    if (ram == NULL) {
        return -1;
    }
    ram->size = b->used;
    return ram_take_memory(q, ram, l, b, err);
}

static bool is_guests(const struct qemu *q, const struct ramblock *b) {
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        const struct vmm_ram *r = &q->vmm.ram[i];
        for (size_t k = 0; r->guest && b->host != 0 && k < r->range_count; k++) {
            if (b->host >= r->ranges[k].start && b->host < r->ranges[k].end) {
                return true;
            }
        }
        if (r->guest && look_is_named(b, r->id)) {
            return true;
        }
    }
    return false;
}

/* Blocks without a name are none that QEMU migrates. */
static int take_all(struct qemu *q, const struct look *l, struct findings *found, struct error *err) {
    size_t guest = q->vmm.ram_count;
    q->save.unreachable = (struct name_list){ 0 };
    for (size_t i = 0; i < l->count; i++) {
        const struct ramblock *b = &l->blocks[i];
        if (b->used == 0 || is_guests(q, b)) {
            continue;
        }
        if (q->vmm.ram_count - guest < OWN_MAX && can_go(q, l, b)) {
            if (take(q, l, b, err) < 0) {
                return -1;
            }
            continue;
        }
        name_list_add(&q->save.unreachable, b->id);
        if (b->used >= LARGE && found != NULL) {
            findings_remark(found,
                            "%" PRIu64 " MiB of RAM that QEMU owns itself (%s) cannot be reached from outside: QEMU "
                            "sends them, the last of it while the guest stands still",
                            b->used >> 20, b->id);
        }
    }
    if (q->vmm.ram_count > guest) { /* the same order at both ends */
        qsort(q->vmm.ram + guest, q->vmm.ram_count - guest, sizeof(*q->vmm.ram), qemu_ram_by_id);
    }
    return 0;
}

int qemu_find_own(struct qemu *q, struct findings *found, struct error *err) {
    struct look l CLEANUP_LOOK = LOOK_CLOSED;
    while (q->vmm.ram_count > 0 && !q->vmm.ram[q->vmm.ram_count - 1].guest) {
        qemu_drop_ram(q, q->vmm.ram_count - 1);
    }
    qemu_free_left(q);
    if (look_open(q, &l, err) < 0) {
        return -1;
    }
    q->all_ram = 0;
    for (size_t i = 0; i < l.count; i++) {
        q->all_ram += l.blocks[i].used;
    }
    return take_all(q, &l, found, err);
}

/* ---- which of them go: both sides or neither ---- */

json_t *qemu_describe_own(const struct vmm *vmm) {
    json_t *list = json_array();
    for (size_t i = 0; i < vmm->ram_count; i++) {
        const struct vmm_ram *r = &vmm->ram[i];
        if (!r->guest) {
            json_array_append_new(list, json_pack("{s:s, s:I}", "id", r->id, "size", (json_int_t)r->size));
        }
    }
    return list;
}

static void tell_left(const struct vmm_ram *r) {
    if (r->size >= LARGE) {
        log_warning("%" PRIu64 " MiB of RAM that QEMU owns itself (%s) are not found in the same size at both ends: "
                    "they go with the device state, while the guest stands still",
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

static int keep_named(struct qemu *q, const json_t *list, struct error *err) {
    for (size_t i = q->vmm.ram_count; i-- > 0 && !q->vmm.ram[i].guest;) {
        if (is_named(list, &q->vmm.ram[i])) {
            continue;
        }
        tell_left(&q->vmm.ram[i]);
        if (q->side == VMM_DESTINATION || q->vmm.way != VMM_WAY_SAVE) {
            qemu_drop_ram(q, i);
        } else if (qemu_leave_ram(q, i, err) < 0) {
            return -1;
        }
    }
    return 0;
}

json_t *qemu_agree(struct vmm *vmm, const json_t *source, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    /* it may have been inspected long ago */
    if (qemu_find_own(q, NULL, err) < 0) {
        return NULL;
    }
    if (keep_named(q, json_object_get(source, "own-ram"), err) < 0) {
        return NULL;
    }
    json_t *ids = json_array();
    for (size_t i = 0; i < vmm->ram_count; i++) {
        if (!vmm->ram[i].guest) {
            json_array_append_new(ids, json_string(vmm->ram[i].id));
        }
    }
    return ids;
}

int qemu_adopt(struct vmm *vmm, const json_t *ids, struct error *err) {
    size_t kept = 0;
    if (keep_named(qemu_of(vmm), ids, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < vmm->ram_count; i++) {
        kept += !vmm->ram[i].guest;
    }
    /* the two sides count blocks alike, or pages would go to the wrong one */
    return kept == json_array_size(ids) ? 0
                                        : error_set(err, ERROR_PEER,
                                                    "the destination names RAM of QEMU's own that it "
                                                    "was not offered, or names it twice");
}
