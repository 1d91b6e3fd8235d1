/* SPDX-License-Identifier: Apache-2.0 */
/* The record in memory: who may run the guest, entries, the heartbeat. */
#include "ledger/ledger.h"
#include "support.h"

#include <sys/wait.h>
#include <unistd.h>

static struct ledger *memory(enum ledger_side side) {
    struct error err = { 0 };
    struct ledger *l = ledger_open(0, 0, &err);
    assert_ok(l != NULL, &err);
    ledger_begin(l, side);
    return l;
}

/* The way from SOURCE to each owner. */
static void go_to(struct ledger *l, enum ledger_owner owner) {
    struct error err = { 0 };
    for (enum ledger_owner o = LEDGER_NOBODY; o <= owner; o++) {
        assert_ok(ledger_move(l, o, &err) == 0, &err);
    }
    assert_int_equal(ledger_owner(l), owner);
}

/* [from][to]: forward, and back, which ends when the guest has run at the destination. Both sides have the same. */
static const char legal[3][3] = {
    [LEDGER_SOURCE] = { '.', 'f', '.' },
    [LEDGER_NOBODY] = { 'b', '.', 'f' },
    [LEDGER_DESTINATION] = { 'b', '.', '.' },
};

static void try_move(enum ledger_side side, enum ledger_owner from, enum ledger_owner to, bool ran) {
    struct ledger *l = memory(side);
    struct error err = { 0 };
    go_to(l, from);
    if (ran) {
        ledger_note_ran(l);
    }
    int64_t at = ledger_moved_at(l);
    bool may = legal[from][to] == 'f' || (legal[from][to] == 'b' && !ran);
    if (may) {
        assert_ok(ledger_move(l, to, &err) == 0, &err);
        assert_int_equal(ledger_owner(l), to);
        assert_true(ledger_moved_at(l) > 0);
    } else {
        assert_refused(ledger_move(l, to, &err), &err, ERROR_SYSTEM, "cannot move from");
        assert_int_equal(ledger_owner(l), from);
        assert_int_equal(ledger_moved_at(l), at);
    }
    ledger_close(l, true);
}

static void only_legal_moves_are_made(void **state) {
    (void)state;
    for (int n = 0; n < 2 * 3 * 3 * 2; n++) {
        try_move(n % 2 ? LEDGER_AT_SOURCE : LEDGER_AT_DESTINATION, (enum ledger_owner)(n / 2 % 3),
                 (enum ledger_owner)(n / 6 % 3), n / 18 == 1);
    }
}

/* The disk is full: nothing has moved, and it may be tried again. */
static void a_move_that_cannot_be_written_is_none(void **state) {
    (void)state;
    struct ledger *l = memory(LEDGER_AT_SOURCE);
    struct error err = { 0 };
    setenv("GODWIT_FAULT", "ledger-full@nobody", 1);
    assert_refused(ledger_move(l, LEDGER_NOBODY, &err), &err, ERROR_SYSTEM, "No space left on device");
    assert_int_equal(ledger_owner(l), LEDGER_SOURCE);
    assert_int_equal(ledger_moved_at(l), 0);
    unsetenv("GODWIT_FAULT");
    assert_ok(ledger_move(l, LEDGER_NOBODY, &err) == 0, &err);
    ledger_close(l, true);
}

static void moves_are_written_down(void **state) {
    (void)state;
    struct ledger *l = memory(LEDGER_AT_DESTINATION);
    go_to(l, LEDGER_DESTINATION);
    const struct ledger_moved *m = ledger_next(l, LEDGER_MOVE, sizeof(*m), NULL);
    assert_non_null(m);
    assert_true(m->from == LEDGER_SOURCE && m->to == LEDGER_NOBODY && m->at > 0);
    m = ledger_next(l, LEDGER_MOVE, sizeof(*m), m);
    assert_non_null(m);
    assert_true(m->from == LEDGER_NOBODY && m->to == LEDGER_DESTINATION);
    assert_null(ledger_next(l, LEDGER_MOVE, sizeof(*m), m));
    assert_false(ledger_has_work(l));
    ledger_close(l, true);
}

static void entries_are_found_by_kind_and_size(void **state) {
    (void)state;
    struct ledger *l = memory(LEDGER_AT_SOURCE);
    struct error err = { 0 };
    assert_null(ledger_next(l, LEDGER_FILE, 1, NULL));
    char *file = ledger_add(l, LEDGER_FILE, 13, &err), *text = ledger_add(l, LEDGER_TEXT, 8, &err);
    assert_true(file != NULL && text != NULL && (uintptr_t)file % 8 == 0 && (uintptr_t)text % 8 == 0);
    for (int i = 0; i < 13; i++) {
        assert_int_equal(file[i], 0);
    }
    char *large = ledger_add(l, LEDGER_TEXT, 100, &err);
    assert_ptr_equal(ledger_next(l, LEDGER_FILE, 13, NULL), file);
    assert_null(ledger_next(l, LEDGER_FILE, 17, NULL));
    assert_null(ledger_next(l, LEDGER_FILE, 13, file));
    assert_ptr_equal(ledger_next(l, LEDGER_TEXT, 8, NULL), text);
    assert_ptr_equal(ledger_next(l, LEDGER_TEXT, 8, text), large);
    assert_ptr_equal(ledger_next(l, LEDGER_TEXT, 50, NULL), large);
    assert_false(ledger_has_work(l));
    ledger_set(large, true);
    assert_true(ledger_is_set(large) && !ledger_is_set(text) && ledger_has_work(l));
    ledger_set(large, false);
    assert_false(ledger_has_work(l));
    ledger_set(text, true);
    ledger_begin(l, LEDGER_AT_SOURCE);
    assert_false(ledger_has_work(l));
    assert_null(ledger_next(l, LEDGER_TEXT, 8, NULL));
    assert_int_equal(ledger_owner(l), LEDGER_SOURCE);
    ledger_close(l, true);
}

static void a_full_record_refuses(void **state) {
    (void)state;
    struct ledger *l = memory(LEDGER_AT_SOURCE);
    struct error err = { 0 };
    int n = 0;
    while (ledger_add(l, LEDGER_TEXT, 1000, &err) != NULL && n < 1000) {
        n++;
    }
    assert_in_range(n, 64, 200); /* as many files as a throttle may change, and more */
    expect_error(&err, ERROR_REFUSED, "no room", "ledger_add");
    assert_null(ledger_add(l, LEDGER_TEXT, SIZE_MAX, &err));
    error_clear(&err);
    assert_null(ledger_add(l, LEDGER_TEXT, SIZE_MAX - 20, &err));
    error_clear(&err);
    /* the hand-over does not hang on what is only for people */
    while (ledger_add(l, LEDGER_TEXT, 8, &err) != NULL) {
    }
    error_clear(&err);
    go_to(l, LEDGER_DESTINATION);
    ledger_close(l, true);
}

static void what_stands_and_beats_is_seen_by_the_other_process(void **state) {
    (void)state;
    struct ledger *l = memory(LEDGER_AT_SOURCE);
    ledger_stand(l, LEDGER_STOPPED, true);
    pid_t pid = fork();
    if (pid == 0) {
        ledger_stand(l, LEDGER_HELD, true);
        ledger_stand(l, LEDGER_STOPPED, false);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(ledger_standing(l), LEDGER_HELD);
    clock_sleep(20 * CLOCK_MS);
    assert_true(ledger_silence(l) >= 20 * CLOCK_MS);
    ledger_beat(l);
    assert_true(ledger_silence(l) < 20 * CLOCK_S);
    clock_sleep(20 * CLOCK_MS);
    int64_t silent = ledger_silence(l);
    ledger_stand(l, LEDGER_HELD, false); /* a beat too */
    assert_true(ledger_silence(l) < silent);
    ledger_beat(NULL);
    ledger_stand(NULL, LEDGER_HELD, true);
    ledger_close(l, true);
    ledger_close(NULL, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_legal_moves_are_made),
        cmocka_unit_test(a_move_that_cannot_be_written_is_none),
        cmocka_unit_test(moves_are_written_down),
        cmocka_unit_test(entries_are_found_by_kind_and_size),
        cmocka_unit_test(a_full_record_refuses),
        cmocka_unit_test(what_stands_and_beats_is_seen_by_the_other_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
