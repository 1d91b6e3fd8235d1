/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/takeover.h"

#include "base/log.h"

static const char *const names[TAKEOVER_STATES] = {
    [TAKEOVER_WAITING] = "waiting", [TAKEOVER_RECEIVING] = "receiving", [TAKEOVER_LOADING] = "loading",
    [TAKEOVER_LOADED] = "loaded",   [TAKEOVER_ASKED] = "asked",         [TAKEOVER_DONE] = "done",
    [TAKEOVER_ENDED] = "ended",     [TAKEOVER_FAILED] = "failed",       [TAKEOVER_GIVEN_UP] = "given-up",
    [TAKEOVER_NEVER] = "never",     [TAKEOVER_IN_DOUBT] = "in-doubt",
};

#define TO(state) (1u << TAKEOVER_##state)

static const unsigned moves[TAKEOVER_STATES] = {
    [TAKEOVER_WAITING] = TO(RECEIVING) | TO(FAILED),
    [TAKEOVER_RECEIVING] = TO(LOADING) | TO(FAILED) | TO(GIVEN_UP),
    [TAKEOVER_LOADING] = TO(LOADED) | TO(FAILED) | TO(GIVEN_UP),
    [TAKEOVER_LOADED] = TO(ASKED) | TO(GIVEN_UP) | TO(NEVER) | TO(IN_DOUBT),
    [TAKEOVER_ASKED] = TO(DONE) | TO(NEVER) | TO(IN_DOUBT),
    [TAKEOVER_DONE] = TO(ENDED),
};

const char *takeover_name(enum takeover_state state) {
    return names[state];
}

bool takeover_may_move(enum takeover_state from, enum takeover_state to) {
    return (moves[from] & (1u << to)) != 0;
}

#define OWNER_STAYS ((enum ledger_owner) - 1)

/* Who may run the guest in a state; OWNER_STAYS: whoever might before it. */
static const enum ledger_owner owners[TAKEOVER_STATES] = {
    [TAKEOVER_WAITING] = LEDGER_SOURCE,    [TAKEOVER_RECEIVING] = LEDGER_SOURCE,  [TAKEOVER_LOADING] = LEDGER_SOURCE,
    [TAKEOVER_LOADED] = LEDGER_NOBODY,     [TAKEOVER_ASKED] = LEDGER_DESTINATION, [TAKEOVER_DONE] = LEDGER_DESTINATION,
    [TAKEOVER_ENDED] = LEDGER_DESTINATION, [TAKEOVER_FAILED] = LEDGER_SOURCE,     [TAKEOVER_GIVEN_UP] = LEDGER_SOURCE,
    [TAKEOVER_NEVER] = LEDGER_SOURCE,      [TAKEOVER_IN_DOUBT] = OWNER_STAYS,
};

static int move_ledger(struct takeover *t, enum takeover_state to, struct error *err) {
    enum ledger_owner owner = owners[to];
    return owner == OWNER_STAYS || owner == ledger_owner(t->ledger) ? 0 : ledger_move(t->ledger, owner, err);
}

int takeover_move(struct takeover *t, enum takeover_state to, struct error *err) {
    if (!takeover_may_move(t->state, to)) {
        return error_set(err, ERROR_SYSTEM, "a takeover that is '%s' cannot become '%s'", names[t->state], names[to]);
    }
    if (move_ledger(t, to, err) < 0) {
        return -1;
    }
    log_debug("takeover: %s -> %s", names[t->state], names[to]);
    t->state = to;
    return 0;
}

void takeover_ran(struct takeover *t) {
    ledger_note_ran(t->ledger);
}

bool takeover_is_open(const struct takeover *t) {
    return t->state == TAKEOVER_LOADED || t->state == TAKEOVER_ASKED;
}

bool takeover_is_done(const struct takeover *t) {
    return t->state == TAKEOVER_DONE || t->state == TAKEOVER_ENDED;
}
