/* SPDX-License-Identifier: Apache-2.0 */
#include "ledger/ledger.h"

#include "base/clock.h"
#include "ledger/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A record that nobody else can open. */
static int open_memory(struct ledger *l, struct error *err) {
    void *memory = mmap(NULL, LEDGER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the ledger");
    }
    l->record = memory;
    atomic_store(&l->record->used, HEAD_SIZE);
    return 0;
}

struct ledger *ledger_open(pid_t pid, uint64_t start, struct error *err) {
    struct ledger *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory for the ledger");
        return NULL;
    }
    l->fd = l->directory = -1;
    if ((pid == 0 ? open_memory(l, err) : file_open(l, pid, start, err)) < 0) {
        ledger_close(l, false);
        return NULL;
    }
    return l;
}

/* The file is worth nothing to anybody: nothing of it is to be undone, and the guest is where it was. */
static bool is_empty(const struct ledger *l) {
    return !ledger_has_work(l) && ledger_owner(l) == LEDGER_SOURCE && !ledger_has_run(l);
}

void ledger_close(struct ledger *l, bool last) {
    if (l == NULL) {
        return;
    }
    if (last && l->record != NULL && l->fd >= 0 && is_empty(l)) {
        file_remove(l);
    }
    if (l->record != NULL) {
        munmap(l->record, LEDGER_SIZE);
    }
    if (l->fd >= 0) {
        close(l->fd);
    }
    if (l->directory >= 0) {
        close(l->directory);
    }
    free(l);
}

const char *ledger_path(const struct ledger *l) {
    return l->path;
}

bool ledger_was_left(const struct ledger *l) {
    return l->left;
}

void ledger_begin(struct ledger *l, enum ledger_side side) {
    struct record *r = l->record;
    atomic_store(&r->begun, 0);
    r->side = (uint32_t)side;
    atomic_store(&r->owner, LEDGER_SOURCE);
    atomic_store(&r->ran, 0);
    atomic_store(&r->standing, 0);
    atomic_store(&r->word_by, 0);
    atomic_store(&r->moved_at, 0);
    atomic_store(&r->used, HEAD_SIZE);
    atomic_store(&r->beat, clock_now());
    atomic_store(&r->begun, 1);
    l->left = false;
}

enum ledger_side ledger_side(const struct ledger *l) {
    return l->record->side == LEDGER_AT_DESTINATION ? LEDGER_AT_DESTINATION : LEDGER_AT_SOURCE;
}

enum ledger_owner ledger_owner(const struct ledger *l) {
    return (enum ledger_owner)atomic_load(&l->record->owner);
}

bool ledger_has_run(const struct ledger *l) {
    return atomic_load(&l->record->ran) != 0;
}

int64_t ledger_moved_at(const struct ledger *l) {
    return atomic_load(&l->record->moved_at);
}

void ledger_beat(struct ledger *l) {
    if (l != NULL) {
        atomic_store_explicit(&l->record->beat, clock_now(), memory_order_relaxed);
    }
}

int64_t ledger_silence(const struct ledger *l) {
    return clock_now() - atomic_load(&l->record->beat);
}

void ledger_stand(struct ledger *l, enum ledger_standing what, bool stands) {
    if (l == NULL) {
        return;
    }
    ledger_beat(l); /* first: silence is counted from here on */
    if (stands) {
        atomic_fetch_or(&l->record->standing, (uint32_t)what);
    } else {
        atomic_fetch_and(&l->record->standing, ~(uint32_t)what);
    }
}

void ledger_word_by(struct ledger *l, int64_t at) {
    atomic_store(&l->record->word_by, at != INT64_MAX ? at : 0);
}

bool ledger_word_is_overdue(const struct ledger *l) {
    int64_t at = atomic_load(&l->record->word_by);
    return at != 0 && clock_now() > at;
}

unsigned ledger_standing(const struct ledger *l) {
    return atomic_load(&l->record->standing);
}
