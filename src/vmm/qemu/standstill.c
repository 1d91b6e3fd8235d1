/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the guest may be stopped, whether it was us who stopped it, and until when it may stand still. */
#include "vmm/qemu/internal.h"

#include <string.h>

/* The deadline is `limit` behind the guest's stop. As long as QEMU answers and the guest has not stopped, it runs while
 * QEMU sends its own RAM, and nothing hurries. */
void qemu_follow_stop(struct qemu *q, int64_t limit) {
    if (limit != INT64_MAX) {
        qmp_set_deadline(q->qmp, (q->stopped_at != 0 ? q->stopped_at : clock_now()) + limit);
    }
}

/* QEMU's migration makes "postmigrate" or "paused" of any state, and `cont` then runs a guest that was shut down. */
static int check_can_move(const struct query_state *state, struct error *err) {
    if (state->running || strcmp(state->name, "paused") == 0 || strcmp(state->name, "prelaunch") == 0) {
        return 0;
    }
    return error_set(err, ERROR_REFUSED,
                     "the guest has stopped by itself meanwhile, it is in state \"%s\": it is left here as it is",
                     state->name);
}

int qemu_can_move(struct vmm *vmm, struct error *err) {
    struct query_state state;
    if (query_state(qemu_of(vmm)->qmp, &state, err) < 0 || check_can_move(&state, err) < 0) {
        return -1;
    }
    return state.running || vmm->way != VMM_WAY_SAVE
               ? 0
               : error_set(
                     err, ERROR_REFUSED,
                     "the guest was paused meanwhile, and a paused one cannot be moved by saving its state: it is "
                     "left here as it is");
}

/* Behind that look, and before QEMU stops it for the migration, the guest may stop by itself yet. Its state is lost
 * then in "finish-migrate"; that it did only an event tells, which comes before that state. It is not let run again. */
int qemu_check_was_stopped(struct qemu *q, uint8_t *guest_ran, struct error *err) {
    if (q->by_itself[0] == '\0') {
        return 0;
    }
    if (guest_ran != NULL) {
        *guest_ran = false;
    }
    return error_set(
        err, ERROR_REFUSED,
        "the guest has stopped by itself (%s) in the moment in which it was to be stopped: it is left here",
        q->by_itself);
}
