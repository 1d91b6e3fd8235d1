/* SPDX-License-Identifier: Apache-2.0 */
#include "ledger/internal.h"

#define ENTRY_VERSION 1

static struct entry *entry_at(const struct record *r, uint32_t offset) {
    return (struct entry *)((uintptr_t)r + offset);
}

static struct entry *entry_of(const void *payload) {
    return (struct entry *)((uintptr_t)payload - sizeof(struct entry));
}

static uint32_t end_of(const struct record *r) {
    uint32_t used = atomic_load(&r->used);
    return used <= LEDGER_SIZE ? used : (uint32_t)LEDGER_SIZE; /* the file may be changed under us by its owner */
}

/* The entry at `offset` when it ends before `end`, or NULL. */
static struct entry *whole_entry(const struct record *r, uint32_t offset, uint32_t end) {
    if (end - offset < sizeof(struct entry)) {
        return NULL;
    }
    struct entry *e = entry_at(r, offset);
    uint32_t room = end - offset - (uint32_t)sizeof(struct entry);
    return e->kind != 0 && e->size % 8 == 0 && e->size <= room ? e : NULL;
}

bool entries_are_whole(const struct record *r) {
    uint32_t end = atomic_load(&r->used), offset = HEAD_SIZE;
    if (end < HEAD_SIZE || end > LEDGER_SIZE || end % 8 != 0) {
        return false;
    }
    while (offset < end) {
        const struct entry *e = whole_entry(r, offset, end);
        if (e == NULL) {
            return false;
        }
        offset += (uint32_t)sizeof(*e) + e->size;
    }
    return true;
}

void *ledger_add(struct ledger *l, enum ledger_kind kind, size_t size, struct error *err) {
    struct record *r = l->record;
    uint32_t offset = end_of(r);
    size_t rounded = (size + 7) & ~(size_t)7;
    if (rounded < size || rounded > LEDGER_SIZE || LEDGER_SIZE - offset < sizeof(struct entry) + rounded) {
        error_set(err, ERROR_REFUSED, "the ledger has no room for another entry of kind %d", (int)kind);
        return NULL;
    }
    struct entry *e = entry_at(r, offset);
    e->kind = (uint16_t)kind;
    e->version = ENTRY_VERSION;
    e->size = (uint32_t)rounded;
    atomic_store(&e->set, 0);
    for (size_t i = 0; i < rounded; i++) {
        ((char *)(e + 1))[i] = 0;
    }
    atomic_store(&r->used, offset + (uint32_t)(sizeof(*e) + rounded));
    return e + 1;
}

/* The first entry at or behind `offset` that `wanted` takes. */
static struct entry *find(const struct record *r, uint32_t offset, bool (*wanted)(const struct entry *, const void *),
                          const void *opaque) {
    uint32_t end = end_of(r);
    while (offset < end) {
        struct entry *e = whole_entry(r, offset, end);
        if (e == NULL || wanted(e, opaque)) {
            return e;
        }
        offset += (uint32_t)sizeof(*e) + e->size;
    }
    return NULL;
}

struct wanted {
    enum ledger_kind kind;
    size_t size;
};

static bool is_wanted(const struct entry *e, const void *opaque) {
    const struct wanted *w = opaque;
    return e->kind == w->kind && e->version == ENTRY_VERSION && e->size >= w->size;
}

void *ledger_next(const struct ledger *l, enum ledger_kind kind, size_t size, const void *last) {
    uint32_t offset = HEAD_SIZE;
    if (last != NULL) {
        const struct entry *e = entry_of(last);
        offset = (uint32_t)((uintptr_t)last - (uintptr_t)l->record) + e->size;
    }
    struct wanted wanted = { kind, size };
    struct entry *e = find(l->record, offset, is_wanted, &wanted);
    return e != NULL ? e + 1 : NULL;
}

void ledger_set(void *payload, bool set) {
    atomic_store(&entry_of(payload)->set, set);
}

bool ledger_is_set(const void *payload) {
    return atomic_load(&entry_of(payload)->set) != 0;
}

static bool is_work(const struct entry *e, const void *opaque) {
    (void)opaque;
    return e->kind != LEDGER_MOVE && atomic_load(&e->set) != 0;
}

bool ledger_has_work(const struct ledger *l) {
    return find(l->record, HEAD_SIZE, is_work, NULL) != NULL;
}
