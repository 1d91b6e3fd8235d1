/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pre-copy. The order is: scan and protect, then drain block I/O, then copy; and what is copied without a drain counts
 * only for the time being.
 *
 * A page that a device writes by DMA (O_DIRECT) is marked as written when it is pinned, not when the device writes it.
 * Scanning first and draining before the copy means: a transfer in flight at the scan has landed before its page is
 * read; one that begins after the scan pins, faults, and is seen by the next scan. A drain lets all requests through
 * that a disk's limits hold back, so it is made twice or so, not in every pass: before the first copy of everything,
 * and right before the guest is stopped. What scans have found between two drains is copied again behind the second;
 * digests tell what is the same, so that takes a look and nothing on the wire (docs/correctness.md).
 *
 * What a sample within a pass finds goes with the next pass for the same reason, whether its page was copied by then or
 * not.
 */
#include "migrate/source.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "policy/cadence.h"

/* So few pages are looked at again while the guest stands still: a few ms. */
#define FEW_PROVISIONAL 2048
/* Between two drains, when the guest writes ever too much again to be stopped. */
#define DRAIN_INTERVAL (2 * CLOCK_S)

static int drain(struct source *s, struct error *err) {
    if (fault_planned("no-drain", NULL)) {
        return 0;
    }
    int64_t begin = clock_now();
    int rc = s->vmm->ops->drain(s->vmm, err);
    forecast_note_least(&s->holder.forecast.drain, clock_now() - begin);
    return rc;
}

int source_ram_full(struct source *s, struct error *err) {
    status_note_time(&s->status, &s->status.times.setup, clock_now() - s->status.started);
    if (source_scan(s, err) < 0 || source_skip_holes(s, err) < 0) {
        return -1;
    }
    ram_forget_unsettled(&s->sender.ram); /* all is copied behind this drain */
    return drain(s, err) < 0 ? -1 : source_pass(s, err);
}

static int wait_pass_interval(struct source *s, struct error *err) {
    int64_t left;
    while ((left = s->sender.scanned_at + PASS_INTERVAL - clock_now()) > 0) {
        if (source_poll(s, -1, left, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The source's sockets take a pass faster than the destination places it: waits until nothing of it is on the way. And
 * what would stand against the stop by now is looked for here: a scan follows, so the time that it takes does not make
 * the pause longer, and the destination's VMM has not begun to load. */
static int wait_placed(struct source *s, struct error *err) {
    if (s->vmm->ops->still_movable(s->vmm, err) < 0) {
        return -1;
    }
    json_t *args = json_pack("{s:I}", "pass", (json_int_t)ram_send_pass(s->sender.send));
    return source_request(s, args, err) < 0 || source_await(s, REPLY_TIMEOUT, NULL, err) < 0 ? -1 : 0;
}

/* Whether the next pass begins with a drain. Before the stop it does when much was copied without one; where pages have
 * no digests, copying again costs as much as copying, so each pass does. */
static bool drain_is_due(const struct source *s, const struct converge_decision *d, bool settles, int64_t drained_at) {
    return !ram_is_digested(&s->sender.ram) ||
           (settles && (d->action == CONVERGE_FORCE || clock_now() - drained_at >= DRAIN_INTERVAL));
}

static int one_pass(struct source *s, bool drains, struct error *err) {
    if (drains) {
        source_settle(s);
    }
    return (drains && drain(s, err) < 0) || source_pass(s, err) < 0 || wait_pass_interval(s, err) < 0 ? -1 : 0;
}

int source_iterate(struct source *s, struct error *err) {
    bool placed = false;
    int64_t drained_at = 0;
    for (;;) {
        struct converge_decision d;
        if (source_scan(s, err) < 0 || source_converge_decide(s, &d, err) < 0) {
            return -1;
        }
        log_debug("scan %u: %llu MiB dirty, %.1f ms to stand still: %s", s->status.sent.passes,
                  (unsigned long long)(s->sender.dirty * RAM_PAGE_SIZE) >> 20, (double)d.downtime / 1e6,
                  converge_action_name(d.action));
        bool ends = d.action == CONVERGE_STOP || d.action == CONVERGE_FORCE;
        bool settles = ends && ram_provisional_pages(&s->sender.ram) > FEW_PROVISIONAL;
        if (ends && !settles && !placed) {
            /* Once, as long as passes stay small. The guest has run meanwhile, so look again. */
            if (wait_placed(s, err) < 0) {
                return -1;
            }
            placed = true;
            continue;
        }
        if (ends && !settles) {
            /* These pages stay marked: the final pass sends them with those of the last scan, after the VMM itself has
             * drained its block I/O to stop the guest. */
            return 0;
        }
        bool drains = drain_is_due(s, &d, settles, drained_at);
        drained_at = drains ? clock_now() : drained_at;
        if (one_pass(s, drains, err) < 0) {
            return -1;
        }
        placed = placed && s->sender.pass.pages < LARGE_PASS;
    }
}
