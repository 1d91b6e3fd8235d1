/* SPDX-License-Identifier: Apache-2.0 */
#include "pace.h"

#include "base/clock.h"

/* The clock is looked at once for so many pages. */
#define TAKE 16
/* A thread that was held up does not make up for more than this: what is throttled has lost its work, as a guest that
 * is bound by its CPU has. */
#define MAX_DEBT (2 * CLOCK_MS)

void pace_begin(struct pace *pace) {
    *pace = (struct pace){ .last = clock_now() };
}

static int64_t account(struct pace *pace, struct plan *plan) {
    int64_t now = clock_now(), passed = now - pace->last;
    pace->last = now;
    plan->run_ns += (uint64_t)passed;
    return passed;
}

void pace_end(struct pace *pace, struct plan *plan) {
    account(pace, plan);
}

/* How long a burst load rests from now; 0 while it writes. */
static int64_t rest_of_pause(const struct load *load, const struct plan *plan) {
    uint64_t period = load->on_ns + load->off_ns;
    if (load->shape != LOAD_BURST || period == 0) {
        return 0;
    }
    uint64_t phase = plan->run_ns % period;
    return phase < load->on_ns ? 0 : (int64_t)(period - phase);
}

unsigned pace_take(struct pace *pace, const struct load *load, struct plan *plan, int64_t *wait_ns) {
    int64_t passed = account(pace, plan);
    if (load->shape == LOAD_IDLE) {
        *wait_ns = -1;
        return 0;
    }
    *wait_ns = rest_of_pause(load, plan);
    if (*wait_ns > 0) {
        return 0;
    }
    if (load->rate == 0) {
        return TAKE;
    }
    double pages_per_ns = (double)load->rate / (double)STUNT_PAGE / (double)load->threads / (double)CLOCK_S;
    double most = pages_per_ns * (double)MAX_DEBT;
    pace->credit += (double)passed * pages_per_ns;
    if (pace->credit > most) {
        pace->credit = most > 1 ? most : pace->credit < 1 ? pace->credit : 1;
    }
    if (pace->credit < 1) {
        int64_t due = (int64_t)((1 - pace->credit) / pages_per_ns);
        *wait_ns = due > CLOCK_MS ? due : CLOCK_MS;
        return 0;
    }
    unsigned take = pace->credit < TAKE ? (unsigned)pace->credit : TAKE;
    pace->credit -= take;
    return take;
}
