/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "migrate/takeover.h"

#include <string.h>

/* One letter a move that is legal, one row a state it begins in: w(aiting) r(eceiving) l(oading) L(oaded) a(sked)
 * d(one) e(nded) f(ailed) g(iven up) n(ever) ?(in doubt). Written down a second time on purpose: who changes the table
 * changes what may run the guest. */
static const char letters[] = "wrlLadefgn?";
static const char *const legal[] = { "rf", "lfg", "Lfg", "agn?", "dn?", "e", "", "", "", "", "" };

/* Who may run the guest in each, in the same order: s(ource) n(obody) d(estination); ?: whoever might before. */
static const char owners[] = "sssndddsss?";

static struct takeover begin(enum takeover_state state) {
    struct error err = { 0 };
    struct takeover t = { .state = state, .ledger = ledger_open(0, 0, &err) };
    assert_ok(t.ledger != NULL, &err);
    ledger_begin(t.ledger, LEDGER_AT_DESTINATION);
    for (unsigned i = LEDGER_NOBODY; strchr("nd", owners[state]) != NULL && i <= LEDGER_DESTINATION; i++) {
        assert_ok(ledger_move(t.ledger, i, &err) == 0, &err);
        if (owners[state] == 'n') {
            break;
        }
    }
    return t;
}

static void end(struct takeover *t) {
    ledger_close(t->ledger, true);
}

static char owner_of(const struct takeover *t) {
    return "snd"[ledger_owner(t->ledger)];
}

static void moves_are_those_of_the_table(void **state) {
    (void)state;
    for (unsigned from = 0; from < TAKEOVER_STATES; from++) {
        for (unsigned to = 0; to < TAKEOVER_STATES; to++) {
            struct takeover t = begin(from);
            struct error err = { 0 };
            bool may = strchr(legal[from], letters[to]) != NULL;
            char before = owner_of(&t);
            assert_int_equal(takeover_may_move(from, to), may);
            assert_int_equal(takeover_move(&t, to, &err), may ? 0 : -1);
            assert_int_equal(t.state, may ? to : from);
            assert_int_equal(error_is_set(&err), !may);
            assert_int_equal(owner_of(&t), may && owners[to] != '?' ? owners[to] : before);
            end(&t);
        }
    }
}

/* What has run here is not given back to the source, whatever is thought afterwards. */
static void what_has_run_is_never_given_back(void **state) {
    (void)state;
    struct takeover t = begin(TAKEOVER_ASKED);
    struct error err = { 0 };
    takeover_ran(&t);
    assert_refused(takeover_move(&t, TAKEOVER_NEVER, &err), &err, ERROR_SYSTEM, "has run at the destination");
    assert_int_equal(t.state, TAKEOVER_ASKED);
    assert_int_equal(owner_of(&t), 'd');
    assert_ok(takeover_move(&t, TAKEOVER_DONE, &err) == 0, &err);
    end(&t);
}

/* Reachable from `from` without passing through `without`. */
static unsigned reach(enum takeover_state from, enum takeover_state without) {
    unsigned seen = 1u << from, before = 0;
    while (seen != before) {
        before = seen;
        for (unsigned i = 0; i < TAKEOVER_STATES; i++) {
            for (unsigned j = 0; (seen & (1u << i)) != 0 && j < TAKEOVER_STATES; j++) {
                seen |= j != without && takeover_may_move(i, j) ? 1u << j : 0;
            }
        }
    }
    return seen;
}

static void nothing_runs_that_was_not_asked_to(void **state) {
    (void)state;
    unsigned runs = 1u << TAKEOVER_ASKED | 1u << TAKEOVER_DONE | 1u << TAKEOVER_ENDED;
    assert_int_equal(reach(TAKEOVER_WAITING, TAKEOVER_ASKED) & runs, 0);
    for (unsigned end = TAKEOVER_FAILED; end < TAKEOVER_STATES; end++) {
        assert_int_equal(reach(end, TAKEOVER_STATES), 1u << end);
    }
}

static void an_illegal_move_names_both(void **state) {
    (void)state;
    struct takeover t = { .state = TAKEOVER_GIVEN_UP };
    struct error err = { 0 };
    assert_int_equal(takeover_move(&t, TAKEOVER_ASKED, &err), -1);
    assert_non_null(strstr(err.desc, "'given-up' cannot become 'asked'"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves_are_those_of_the_table),
        cmocka_unit_test(what_has_run_is_never_given_back),
        cmocka_unit_test(nothing_runs_that_was_not_asked_to),
        cmocka_unit_test(an_illegal_move_names_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
