/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's auto-converge (migration_trigger_throttle() in its migration/ram.c): when a pass dirtied more than
 * throttle-trigger-threshold percent of what it sent, twice in a row, the throttle goes to cpu-throttle-initial, and
 * each further time up by cpu-throttle-increment, to max-cpu-throttle. It never comes down.
 *
 * As in QEMU, passes shorter than 1 s are taken together. Different from QEMU:
 *   - What was sent is taken in bytes of memory. QEMU compares dirtied memory with bytes on the wire, so that its
 *     threshold means another thing for each ratio: with one of 2 a guest that dirties a quarter of what a pass sends,
 *     whose passes thus shrink to a quarter, is held back. Without compression both are the same.
 *   - QEMU counts to two over passes below the threshold; here they must follow each other.
 *   - cpu-throttle-initial is kept within max-cpu-throttle.
 */
#include "policy/converge_policy.h"

#include "base/clock.h"

#define PERIOD CLOCK_S

void converge_stepped(const struct converge_config *config, const struct converge_input *in,
                      struct converge_stepped_state *s, struct converge_advice *advice) {
    if (!in->pass_ended) {
        return;
    }
    s->sent += in->pass_sent;
    s->dirtied += in->pass_dirtied;
    s->time += in->pass_time;
    if (s->time < PERIOD) {
        return;
    }
    bool high = (double)s->dirtied > (double)s->sent * config->trigger_threshold / 100.0;
    s->high = high ? s->high + 1 : 0;
    s->sent = s->dirtied = 0;
    s->time = 0;
    if (s->high < 2) {
        return;
    }
    s->high = 0;
    advice->throttle = advice->throttle == 0 ? config->initial : advice->throttle + config->increment;
    advice->reason = "passes dirty too much of what they send";
}
