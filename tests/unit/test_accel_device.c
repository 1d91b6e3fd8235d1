/* SPDX-License-Identifier: Apache-2.0 */
/* The health of a device (accel/device.h): each event in each state, and what comes of many of them. */
#include "accel/device.h"
#include "support.h"

#define NOW 1000
#define PAST 900
#define LATER 1500
#define DUE 1700
#define TIMEOUT 2000
#define RETRY 100

static const struct device_times times = { .timeout_ns = TIMEOUT, .retry_ns = RETRY };

#define STATES 4 /* of enum accel_health */
#define STATE(...) ((struct device_state){ __VA_ARGS__ })
#define S(health_) STATE(.health = ACCEL_##health_)
#define EVENT_AT(now_, kind_, ...) ((struct device_event){ .kind = DEVICE_##kind_, .now = (now_), __VA_ARGS__ })
#define EVENT(kind_, ...) EVENT_AT(NOW, kind_, __VA_ARGS__)
#define E(kind_) EVENT(kind_, .due = NEVER)
#define WHY .why = "because"
#define RETIRE_TELL (DEVICE_RETIRE | DEVICE_TELL)

/* What a state becomes by an event, and what is to be done. `why` is compared where TELL is asked for. */
struct row {
    struct device_state before;
    struct device_event event;
    struct device_state after;
    unsigned what;
    int64_t wake_at;
    const char *why;
};

static const struct row rows[] = {
    /* STARTING: no news until it has come up, or has not */
    { STATE(.health = ACCEL_STARTING, .until = LATER), E(TICK), STATE(.health = ACCEL_STARTING, .until = LATER), 0,
      LATER, NULL },
    { STATE(.health = ACCEL_STARTING, .until = NOW), E(TICK),
      STATE(.health = ACCEL_WAITING, .until = NOW + RETRY, .failures = 1), DEVICE_RETIRE, NOW + RETRY, NULL },
    { STATE(.health = ACCEL_STARTING, .failures = DEVICE_MAX_FAILURES - 1), E(TICK),
      STATE(.health = ACCEL_LOST, .failures = DEVICE_MAX_FAILURES), RETIRE_TELL, NEVER, "it did not start" },
    { S(STARTING), EVENT(STARTED, .ready = true), S(STARTING), 0, NEVER, NULL },
    { S(STARTING), EVENT(HEARD, .ready = false), S(STARTING), 0, NEVER, NULL },
    { S(STARTING), EVENT(HEARD, .ready = true), S(READY), 0, NEVER, NULL }, /* for the first time: accel_open() */
    { STATE(.health = ACCEL_STARTING, .failures = 2), EVENT(HEARD, .ready = true),
      STATE(.health = ACCEL_READY, .failures = 2), DEVICE_TELL, NEVER, "it is back" },
    { S(STARTING), EVENT(TAKEN, .due = DUE), S(STARTING), 0, NEVER, NULL },
    { S(STARTING), EVENT(ANSWERED, .status = ACCEL_FAILED), S(STARTING), 0, NEVER, NULL },
    { S(STARTING), EVENT(OVERDUE, WHY), S(STARTING), 0, NEVER, NULL },
    { S(STARTING), EVENT(FAILED, WHY), STATE(.health = ACCEL_WAITING, .until = NOW + RETRY, .failures = 1),
      DEVICE_RETIRE, NOW + RETRY, NULL },
    { S(STARTING), E(BLAMED), STATE(.health = ACCEL_STARTING, .blamed = 1), 0, NEVER, NULL },
    { STATE(.health = ACCEL_STARTING, .blamed = ACCEL_MAX_BLAMES - 1), E(BLAMED),
      STATE(.health = ACCEL_LOST, .blamed = ACCEL_MAX_BLAMES), RETIRE_TELL, NEVER,
      "what it made of batches was wrong too often" },
    { S(STARTING), E(CLOSED), S(LOST), DEVICE_CANCEL, NEVER, NULL },

    /* READY */
    { S(READY), EVENT(TICK, .due = DUE), S(READY), 0, DUE, NULL },
    { S(READY), E(TICK), S(READY), 0, NEVER, NULL },
    { S(READY), EVENT(STARTED, .ready = true), S(READY), 0, NEVER, NULL },
    { S(READY), EVENT(HEARD, .ready = true), S(READY), 0, NEVER, NULL },
    { STATE(.health = ACCEL_READY, .failing = DEVICE_MAX_FAILED_IN_A_ROW - 1), EVENT(HEARD, .ready = true),
      STATE(.health = ACCEL_READY, .failing = DEVICE_MAX_FAILED_IN_A_ROW - 1), 0, NEVER, NULL },
    { STATE(.health = ACCEL_READY, .failing = DEVICE_MAX_FAILED_IN_A_ROW), EVENT(HEARD, .ready = true),
      STATE(.health = ACCEL_WAITING, .until = NOW + RETRY, .failures = 1, .resets = 1), RETIRE_TELL, NOW + RETRY,
      "it fails every job" },
    { S(READY), EVENT(TAKEN, .due = DUE), S(READY), 0, DUE, NULL },
    { STATE(.health = ACCEL_READY, .failures = 3, .failing = 2), EVENT(ANSWERED, .status = ACCEL_OK), S(READY), 0,
      NEVER, NULL },
    { STATE(.health = ACCEL_READY, .failures = 3, .failing = 2), EVENT(ANSWERED, .status = ACCEL_TOO_BIG), S(READY), 0,
      NEVER, NULL },
    { STATE(.health = ACCEL_READY, .failures = 3, .failing = 2),
      EVENT(ANSWERED, .status = ACCEL_OK, .work = ACCEL_DECOMPRESS), S(READY), 0, NEVER, NULL },
    { STATE(.health = ACCEL_READY, .failures = 3, .failing = 2), EVENT(ANSWERED, .status = ACCEL_FAILED),
      STATE(.health = ACCEL_READY, .failures = 3, .failing = 3), 0, NEVER, NULL },
    { STATE(.health = ACCEL_READY, .failures = 3, .failing = 2),
      EVENT(ANSWERED, .status = ACCEL_FAILED, .work = ACCEL_DECOMPRESS),
      STATE(.health = ACCEL_READY, .failures = 3, .failing = 2), 0, NEVER, NULL },
    { STATE(.health = ACCEL_READY, .failing = 3), EVENT(OVERDUE, WHY),
      STATE(.health = ACCEL_WAITING, .until = NOW + RETRY, .failures = 1, .resets = 1), DEVICE_EXPIRE | RETIRE_TELL,
      NOW + RETRY, "because" },
    { STATE(.health = ACCEL_READY, .failures = DEVICE_MAX_FAILURES - 1), EVENT(OVERDUE, WHY),
      STATE(.health = ACCEL_LOST, .failures = DEVICE_MAX_FAILURES, .resets = 1), DEVICE_EXPIRE | RETIRE_TELL, NEVER,
      "because" },
    { STATE(.health = ACCEL_READY, .failing = 3), EVENT(FAILED, WHY),
      STATE(.health = ACCEL_WAITING, .until = NOW + RETRY, .failures = 1, .resets = 1), RETIRE_TELL, NOW + RETRY,
      "because" },
    { STATE(.health = ACCEL_READY, .failures = DEVICE_MAX_FAILURES - 1), EVENT(FAILED, WHY),
      STATE(.health = ACCEL_LOST, .failures = DEVICE_MAX_FAILURES, .resets = 1), RETIRE_TELL, NEVER, "because" },
    { STATE(.health = ACCEL_READY, .resets = DEVICE_MAX_RESETS - 1), EVENT(FAILED, WHY),
      STATE(.health = ACCEL_LOST, .failures = 1, .resets = DEVICE_MAX_RESETS), RETIRE_TELL, NEVER, "because" },
    { STATE(.health = ACCEL_READY, .blamed = ACCEL_MAX_BLAMES - 2), E(BLAMED),
      STATE(.health = ACCEL_READY, .blamed = ACCEL_MAX_BLAMES - 1), 0, NEVER, NULL },
    { STATE(.health = ACCEL_READY, .blamed = ACCEL_MAX_BLAMES - 1), E(BLAMED),
      STATE(.health = ACCEL_LOST, .blamed = ACCEL_MAX_BLAMES), RETIRE_TELL, NEVER,
      "what it made of batches was wrong too often" },
    { S(READY), E(CLOSED), S(LOST), DEVICE_CANCEL, NEVER, NULL },

    /* WAITING: there is no unit that could be retired */
    { STATE(.health = ACCEL_WAITING, .until = LATER), E(TICK), STATE(.health = ACCEL_WAITING, .until = LATER), 0, LATER,
      NULL },
    { STATE(.health = ACCEL_WAITING, .until = NOW), E(TICK), STATE(.health = ACCEL_WAITING, .until = NOW), DEVICE_START,
      NEVER, NULL },
    { STATE(.health = ACCEL_WAITING, .until = PAST), EVENT(STARTED, .ready = false),
      STATE(.health = ACCEL_STARTING, .until = NOW + TIMEOUT), 0, NOW + TIMEOUT, NULL },
    { S(WAITING), EVENT(STARTED, .ready = true), S(READY), 0, NEVER, NULL },
    { STATE(.health = ACCEL_WAITING, .failures = 1), EVENT(STARTED, .ready = true),
      STATE(.health = ACCEL_READY, .failures = 1), DEVICE_TELL, NEVER, "it is back" },
    { S(WAITING), EVENT(HEARD, .ready = true), S(WAITING), 0, NEVER, NULL },
    { S(WAITING), EVENT(TAKEN, .due = DUE), S(WAITING), 0, NEVER, NULL },
    { STATE(.health = ACCEL_WAITING, .failures = 1), EVENT(ANSWERED, .status = ACCEL_OK),
      STATE(.health = ACCEL_WAITING, .failures = 1), 0, NEVER, NULL },
    { S(WAITING), EVENT(OVERDUE, WHY), S(WAITING), 0, NEVER, NULL },
    { STATE(.health = ACCEL_WAITING, .until = PAST, .failures = 1), EVENT(FAILED, WHY),
      STATE(.health = ACCEL_WAITING, .until = NOW + 2 * RETRY, .failures = 2), 0, NOW + 2 * RETRY, NULL },
    { STATE(.health = ACCEL_WAITING, .failures = DEVICE_MAX_FAILURES - 1, .resets = 1), EVENT(FAILED, WHY),
      STATE(.health = ACCEL_LOST, .failures = DEVICE_MAX_FAILURES, .resets = 1), DEVICE_TELL, NEVER, "because" },
    { STATE(.health = ACCEL_WAITING, .blamed = ACCEL_MAX_BLAMES - 1), E(BLAMED),
      STATE(.health = ACCEL_LOST, .blamed = ACCEL_MAX_BLAMES), DEVICE_TELL, NEVER,
      "what it made of batches was wrong too often" },
    { S(WAITING), E(CLOSED), S(LOST), DEVICE_CANCEL, NEVER, NULL },

    /* LOST: for good */
    { S(LOST), EVENT(TICK, .due = DUE), S(LOST), 0, NEVER, NULL },
    { S(LOST), EVENT(STARTED, .ready = true), S(LOST), 0, NEVER, NULL },
    { STATE(.health = ACCEL_LOST, .failing = 9), EVENT(HEARD, .ready = true), STATE(.health = ACCEL_LOST, .failing = 9),
      0, NEVER, NULL },
    { S(LOST), EVENT(TAKEN, .due = DUE), S(LOST), 0, NEVER, NULL },
    { S(LOST), EVENT(ANSWERED, .status = ACCEL_FAILED), S(LOST), 0, NEVER, NULL },
    { S(LOST), EVENT(OVERDUE, WHY), S(LOST), 0, NEVER, NULL },
    { S(LOST), EVENT(FAILED, WHY), S(LOST), 0, NEVER, NULL },
    { STATE(.health = ACCEL_LOST, .blamed = ACCEL_MAX_BLAMES), E(BLAMED),
      STATE(.health = ACCEL_LOST, .blamed = ACCEL_MAX_BLAMES + 1), 0, NEVER, NULL },
    { S(LOST), E(CLOSED), S(LOST), 0, NEVER, NULL },
};

static void each_event_in_each_state(void **state) {
    (void)state;
    bool seen[STATES][DEVICE_EVENTS] = { 0 };
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct row *r = &rows[i];
        struct device_state s = r->before;
        struct device_actions actions = device_step(&s, &times, &r->event);
        seen[r->before.health][r->event.kind] = true;
        bool right = s.health == r->after.health && s.until == r->after.until && s.failures == r->after.failures &&
                     s.failing == r->after.failing && s.resets == r->after.resets && s.blamed == r->after.blamed &&
                     actions.what == r->what && actions.wake_at == r->wake_at;
        if (!right) {
            fail_msg("row %zu: %s by event %d became %s until %lld, %u failures, %u failing, %u resets, %u blamed; "
                     "actions %u, wake at %lld",
                     i, accel_health_name(r->before.health), r->event.kind, accel_health_name(s.health),
                     (long long)s.until, s.failures, s.failing, s.resets, s.blamed, actions.what,
                     (long long)actions.wake_at);
        }
        if (actions.what & DEVICE_TELL) {
            assert_string_equal(actions.why, r->why);
        }
    }
    for (int health = 0; health < STATES; health++) {
        for (int kind = 0; kind < DEVICE_EVENTS; kind++) {
            if (!seen[health][kind]) {
                fail_msg("no row for event %d in the state %s", kind, accel_health_name((enum accel_health)health));
            }
        }
    }
}

static struct device_actions step(struct device_state *s, const struct device_times *t, struct device_event e) {
    return device_step(s, t, &e);
}

/* It comes up again at once. */
static void come_back(struct device_state *s) {
    assert_int_equal(step(s, &times, EVENT_AT(s->until, TICK, .due = NEVER)).what, DEVICE_START);
    step(s, &times, EVENT_AT(s->until, STARTED, .ready = false));
    assert_int_equal(step(s, &times, EVENT(HEARD, .ready = true)).what, DEVICE_TELL);
}

static void the_wait_is_doubled_up_to_a_bound(void **state) {
    (void)state;
    const struct device_times second = { .timeout_ns = CLOCK_S, .retry_ns = CLOCK_S };
    const int64_t want[] = { CLOCK_S, 2 * CLOCK_S, 4 * CLOCK_S, 8 * CLOCK_S, DEVICE_MAX_WAIT };
    struct device_state s = S(READY);
    for (size_t i = 0; i < COUNT(want); i++) {
        step(&s, &second, EVENT(FAILED, WHY));
        assert_int_equal(s.health, ACCEL_WAITING);
        assert_int_equal(s.until - NOW, want[i]);
    }
    step(&s, &second, EVENT(FAILED, WHY));
    assert_int_equal(s.health, ACCEL_LOST);
    s = S(READY);
    step(&s, &(struct device_times){ .retry_ns = 60 * CLOCK_S }, EVENT(FAILED, WHY));
    assert_int_equal(s.until - NOW, DEVICE_MAX_WAIT);
}

/* A job done in between makes up for all failures before it, but not for the resets. */
static void who_works_between_failures_has_so_many_resets(void **state) {
    (void)state;
    struct device_state s = S(READY);
    for (unsigned resets = 1; resets < DEVICE_MAX_RESETS; resets++) {
        assert_int_equal(step(&s, &times, EVENT(FAILED, WHY)).what, RETIRE_TELL);
        assert_int_equal(s.health, ACCEL_WAITING);
        assert_int_equal(s.resets, resets);
        assert_int_equal(s.until, NOW + RETRY);
        come_back(&s);
        step(&s, &times, EVENT(ANSWERED, .status = resets % 2 == 0 ? ACCEL_OK : ACCEL_TOO_BIG));
    }
    step(&s, &times, EVENT(FAILED, WHY));
    assert_int_equal(s.health, ACCEL_LOST);
}

/* One that is right among those that are wrong begins the row anew, and so does a reset. */
static void a_row_of_failed_jobs_has_no_gap(void **state) {
    (void)state;
    struct device_state s = S(READY);
    for (unsigned i = 0; i < 2 * DEVICE_MAX_FAILED_IN_A_ROW - 1; i++) {
        bool gap = i == DEVICE_MAX_FAILED_IN_A_ROW - 1;
        step(&s, &times, EVENT(ANSWERED, .status = gap ? ACCEL_OK : ACCEL_FAILED));
        step(&s, &times, EVENT(HEARD, .ready = true));
        assert_int_equal(s.health, ACCEL_READY);
    }
    step(&s, &times, EVENT(ANSWERED, .status = ACCEL_FAILED));
    step(&s, &times, EVENT(HEARD, .ready = true));
    assert_int_equal(s.health, ACCEL_WAITING);
    come_back(&s);
    step(&s, &times, EVENT(HEARD, .ready = true));
    assert_int_equal(s.health, ACCEL_READY);
}

/* Whatever happens, in any order, possible or not. */
static void check_step(const struct device_state *before, const struct device_state *after,
                       const struct device_event *e, const struct device_actions *actions) {
    bool live = before->health == ACCEL_READY || before->health == ACCEL_STARTING;
    bool live_after = after->health == ACCEL_READY || after->health == ACCEL_STARTING;
    if (before->health == ACCEL_LOST) {
        assert_int_equal(after->health, ACCEL_LOST);
        assert_int_equal(actions->what, 0);
        assert_int_equal(actions->wake_at, NEVER);
    }
    if (actions->what & DEVICE_START) { /* alone, and only when it is time */
        assert_int_equal(actions->what, DEVICE_START);
        assert_true(before->health == ACCEL_WAITING && e->now >= before->until);
    }
    /* A unit ends by RETIRE, or by CANCEL at the end; and only one that there is. */
    assert_true(!(actions->what & DEVICE_RETIRE) || (live && !live_after));
    assert_true(!(live && !live_after) || (actions->what & (DEVICE_RETIRE | DEVICE_CANCEL)));
    assert_int_equal((actions->what & DEVICE_CANCEL) != 0, e->kind == DEVICE_CLOSED && before->health != ACCEL_LOST);
    /* The way out of READY is news, and so is the loss. */
    bool news = after->health != before->health && e->kind != DEVICE_CLOSED &&
                (before->health == ACCEL_READY || after->health == ACCEL_LOST);
    assert_true(!news || (actions->what & DEVICE_TELL));
    assert_true(!(actions->what & DEVICE_TELL) || (actions->why != NULL && after->health != before->health));
    /* Nothing is waited for in vain. */
    if (e->kind == DEVICE_TICK && (after->health == ACCEL_WAITING || after->health == ACCEL_STARTING) &&
        !(actions->what & DEVICE_START)) {
        assert_int_equal(actions->wake_at, after->until);
        assert_true(after->until > e->now);
    }
    assert_true(after->failures <= DEVICE_MAX_FAILURES && after->resets <= DEVICE_MAX_RESETS);
}

static void no_order_of_events_breaks_it(void **state) {
    (void)state;
    uint64_t seed = 1;
    unsigned lost = 0, back = 0;
    for (int run = 0; run < 2000; run++) {
        struct device_state s = S(WAITING);
        int64_t now = 0;
        for (int i = 0; i < 100; i++) {
            /* CLOSED and BLAMED seldom: else there would be little else to see */
            uint64_t kind = random_below(&seed, random_below(&seed, 20) == 0 ? DEVICE_EVENTS : DEVICE_BLAMED);
            struct device_event e = { .kind = (enum device_event_kind)kind,
                                      .now = now,
                                      .due = now + 1 + (int64_t)random_below(&seed, TIMEOUT),
                                      .ready = random_below(&seed, 2) == 0,
                                      .status = (enum accel_status)random_below(&seed, ACCEL_CLOSED + 1),
                                      .work = (enum accel_work)random_below(&seed, 2),
                                      .why = "because" };
            struct device_state before = s;
            struct device_actions actions = device_step(&s, &times, &e);
            check_step(&before, &s, &e, &actions);
            back += before.failures > 0 && s.health == ACCEL_READY && before.health != ACCEL_READY;
            now += (int64_t)random_below(&seed, TIMEOUT);
        }
        lost += s.health == ACCEL_LOST;
    }
    assert_true(lost > 0 && back > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_event_in_each_state),
        cmocka_unit_test(the_wait_is_doubled_up_to_a_bound),
        cmocka_unit_test(who_works_between_failures_has_so_many_resets),
        cmocka_unit_test(a_row_of_failed_jobs_has_no_gap),
        cmocka_unit_test(no_order_of_events_breaks_it),
    };
    return cmocka_run_group_tests_name("accel_device", tests, NULL, NULL);
}
