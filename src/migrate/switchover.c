/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/switchover.h"

#include "ledger/ledger.h"

void switchover_init(struct switchover *w, struct vmm *vmm) {
    *w = (struct switchover){ .vmm = vmm, .limit = INT64_MAX, .deadline = INT64_MAX };
}

bool switchover_handed_over(const struct switchover *w) {
    const struct ledger *l = w->vmm->ledger;
    return !ledger_was_left(l) && ledger_owner(l) != LEDGER_SOURCE;
}

/* The VMM's functions follow. */
static void set_deadline(struct switchover *w, int64_t at) {
    if (at != w->deadline) {
        w->deadline = at;
        w->vmm->ops->set_deadline(w->vmm, at);
    }
}

/* `limit` behind `since`, and no overflow. */
static int64_t after(int64_t since, int64_t limit) {
    return limit > INT64_MAX - since ? INT64_MAX : since + limit;
}

static void follow(struct switchover *w) {
    int64_t since = w->stopped_at != 0 ? w->stopped_at : w->asked_at;
    if (since != 0 && w->guest_was_running && !switchover_handed_over(w)) {
        set_deadline(w, after(since, w->limit));
    }
}

void switchover_set_limit(struct switchover *w, int64_t limit_ns) {
    w->limit = limit_ns;
    follow(w);
}

void switchover_ask(struct switchover *w) {
    w->asked_at = clock_now();
    follow(w);
}

void switchover_stopped(struct switchover *w, int64_t at) {
    w->stopped_at = at;
    follow(w);
}

void switchover_hand_over(struct switchover *w) {
    int64_t least = clock_now() + SWITCHOVER_RUN_TIME;
    set_deadline(w, w->deadline > least ? w->deadline : least);
    ledger_word_by(w->vmm->ledger, w->deadline);
}

void switchover_end(struct switchover *w) {
    ledger_word_by(w->vmm->ledger, 0);
    set_deadline(w, INT64_MAX);
}

int64_t switchover_left(const struct switchover *w) {
    if (w->deadline == INT64_MAX) {
        return INT64_MAX;
    }
    int64_t left = w->deadline - clock_now();
    return left > 0 ? left : 0;
}

int64_t switchover_within(const struct switchover *w) {
    int64_t left = switchover_left(w);
    if (left == INT64_MAX) {
        return 0;
    }
    int64_t ms = (switchover_handed_over(w) ? left - SWITCHOVER_WORD_TIME : left) / CLOCK_MS;
    return ms > 1 ? ms : 1;
}

int switchover_check(const struct switchover *w, const char *stage, struct error *err) {
    if (switchover_left(w) > 0) {
        return 0;
    }
    if (switchover_handed_over(w)) {
        return error_set(err, ERROR_TIMEOUT, "the destination has not said in time whether the guest runs there");
    }
    int64_t since = w->stopped_at != 0 ? w->stopped_at : w->asked_at;
    return error_set(err, ERROR_TIMEOUT,
                     "the guest has stood still for %.1f s, which is stop-limit, and '%s' is not at its end: a larger "
                     "stop-limit gives it more time, 0 as much as it takes",
                     (double)(clock_now() - since) / 1e9, stage);
}

int switchover_undo(struct switchover *w, struct error *err) {
    relay_stop(&w->relay);
    switchover_end(w);
    return w->vmm->ops->undo(w->vmm, true, err);
}
