/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may run the guest. Each side has a ledger of its own, and moves it before it says so:
 *
 *               at the source                                     at the destination
 *
 *      ┌──────── SOURCE ◄─────────────┐                  ┌──────── SOURCE ◄────────────────┐
 *      │ before `run`                 │                  │ before "loaded" is said         │ the source gave up;
 *      │ is asked for                 │ the destination  ▼                                 │ or never: `cont` failed
 *      ▼                              │ says `never`;  NOBODY ─────────────────────────────┤ and nothing ran
 *    NOBODY ──────────────────────────┤ or `resolve      │ `run` came,                     │
 *      │ the destination says         │ --take-back`     │ before `cont`                   │
 *      ▼ that it has the guest        │                  ▼                                 │
 *    DESTINATION ─────────────────────┘                DESTINATION ────────────────────────┘
 *             not once the guest has run there                  not once the guest has run here
 *
 * The guest may run at the source only while the source's ledger says SOURCE, and at the destination only while the
 * destination's says DESTINATION. That both do can't be: the destination's says so only after the source's said NOBODY,
 * and the source's returns to SOURCE only on the destination's word that its own has returned there for good, or on an
 * operator's that the destination's VMM has ended.
 */
#include "base/clock.h"
#include "base/log.h"
#include "ledger/internal.h"

/* A record serves those who come when its engine is dead, and for them it need not be on a disk: the host still runs.
 * The disk is for a host that loses its power. At the destination it loses its VMM too; a record that says SOURCE and
 * one that says NOBODY then tell the same, that the guest never ran here, so the guest need not stand still until the
 * second is written. */
static const struct move {
    enum ledger_side side;
    enum ledger_owner from, to;
    bool back; /* not once the guest has run at the destination */
    const char *why;
    bool soon; /* on disk when the disk likes, or with the next move: see above */
} moves[] = {
    { LEDGER_AT_SOURCE, LEDGER_SOURCE, LEDGER_NOBODY, false, "handed over" },
    { LEDGER_AT_SOURCE, LEDGER_NOBODY, LEDGER_DESTINATION, false, "the destination has it" },
    { LEDGER_AT_SOURCE, LEDGER_NOBODY, LEDGER_SOURCE, true, "the destination never runs it" },
    { LEDGER_AT_SOURCE, LEDGER_DESTINATION, LEDGER_SOURCE, true, "taken back" },
    { LEDGER_AT_DESTINATION, LEDGER_SOURCE, LEDGER_NOBODY, false, "loaded", .soon = true },
    { LEDGER_AT_DESTINATION, LEDGER_NOBODY, LEDGER_DESTINATION, false, "asked to run it" },
    { LEDGER_AT_DESTINATION, LEDGER_NOBODY, LEDGER_SOURCE, true, "the source keeps it" },
    { LEDGER_AT_DESTINATION, LEDGER_DESTINATION, LEDGER_SOURCE, true, "it never runs here" },
};

static const char *const names[] = {
    [LEDGER_SOURCE] = "source", [LEDGER_NOBODY] = "nobody", [LEDGER_DESTINATION] = "destination"
};

const char *ledger_owner_name(enum ledger_owner owner) {
    return (size_t)owner < sizeof(names) / sizeof(names[0]) ? names[owner] : "?";
}

static const struct move *find_move(const struct ledger *l, enum ledger_owner from, enum ledger_owner to) {
    for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
        const struct move *m = &moves[i];
        if (m->side == ledger_side(l) && m->from == from && m->to == to && !(m->back && ledger_has_run(l))) {
            return m;
        }
    }
    return NULL;
}

/* For people who read the record later. Where it is full it goes without. */
static void write_down(struct ledger *l, enum ledger_owner from, enum ledger_owner to, int64_t at) {
    struct error ignored = { 0 };
    struct ledger_moved *m = ledger_add(l, LEDGER_MOVE, sizeof(*m), &ignored);
    if (m != NULL) {
        *m = (struct ledger_moved){ .from = (uint32_t)from, .to = (uint32_t)to, .at = at };
        ledger_set(m, true);
    }
}

int ledger_move(struct ledger *l, enum ledger_owner to, struct error *err) {
    struct record *r = l->record;
    enum ledger_owner from = ledger_owner(l);
    const struct move *m = find_move(l, from, to);
    if (m == NULL) {
        return error_set(err, ERROR_SYSTEM, "the ledger of the %s cannot move from \"%s\" to \"%s\"%s",
                         ledger_side(l) == LEDGER_AT_SOURCE ? "source" : "destination", ledger_owner_name(from),
                         ledger_owner_name(to), ledger_has_run(l) ? ": the guest has run at the destination" : "");
    }
    int64_t before = ledger_moved_at(l), at = clock_wall();
    atomic_store(&r->owner, to);
    atomic_store(&r->moved_at, at);
    if (!m->soon && file_sync(l, ledger_owner_name(to), err) < 0) {
        atomic_store(&r->owner, from);
        atomic_store(&r->moved_at, before);
        return -1;
    }
    write_down(l, from, to, at);
    log_debug("ledger: the guest may be run by: %s -> %s (%s)", ledger_owner_name(from), ledger_owner_name(to), m->why);
    return 0;
}

void ledger_note_ran(struct ledger *l) {
    if (!ledger_has_run(l)) {
        atomic_store(&l->record->ran, 1);
        log_debug("ledger: the guest has run at the destination");
    }
}
