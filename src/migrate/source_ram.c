/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pre-copy. In every pass the order is: scan and protect, then drain block I/O, then copy.
 *
 * A page that a device writes by DMA (O_DIRECT) is marked as written when it is pinned, not when the device writes it.
 * Scanning first and draining before the copy means: a transfer in flight at the scan has landed before its page is
 * read; one that begins after the scan pins, faults, and is seen by the next scan (docs/correctness.md).
 */
#include "migrate/source.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

static int drain(struct source *s, struct error *err) {
    if (fault_planned("no-drain", NULL)) {
        return 0;
    }
    return s->vmm->ops->drain(s->vmm, err);
}

static int scan_drain_copy(struct source *s, bool first, struct error *err) {
    if (source_scan(s, err) < 0) {
        return -1;
    }
    for (size_t i = 0; first && i < s->ram.count; i++) {
        if (ram_skip_holes(&s->ram.blocks[i], err) < 0) {
            return -1;
        }
    }
    return drain(s, err) < 0 ? -1 : source_pass(s, err);
}

int source_ram_full(struct source *s, struct error *err) {
    status_note_time(&s->status, &s->status.times.setup, clock_now() - s->status.started);
    return scan_drain_copy(s, true, err);
}

static int64_t downtime_limit(struct source *s) {
    pthread_mutex_lock(&s->params_lock);
    int64_t limit = s->params.value[PARAM_DOWNTIME_LIMIT] * CLOCK_MS;
    pthread_mutex_unlock(&s->params_lock);
    return limit;
}

/* Below this a further pass saves less than it costs. */
#define SMALL_REMAINDER (5 * CLOCK_MS)
#define EXTRA_PASSES 4

/*
 * The stop rule: what is dirty now would take no longer than downtime-limit. As long as passes shrink fast, a few more
 * are made although the limit is met: they cost little, and the guest's pause becomes that much shorter.
 */
struct stop_rule {
    int64_t last; /* forecast of the pass before, ns */
    unsigned extra;
};

static bool should_stop(struct stop_rule *rule, int64_t forecast, int64_t limit) {
    if (forecast > limit) {
        rule->last = forecast;
        return false;
    }
    bool shrinks = forecast * 2 < rule->last && forecast > SMALL_REMAINDER;
    rule->last = forecast;
    return !(shrinks && rule->extra++ < EXTRA_PASSES);
}

/* Each pass drains the guest's disks: tiny ones do not follow each other at once. */
#define PASS_INTERVAL (20 * CLOCK_MS)

static int breathe(struct source *s, struct error *err) {
    int64_t left;
    while ((left = s->scanned_at + PASS_INTERVAL - clock_now()) > 0) {
        if (source_poll(s, -1, left, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The source's sockets take a pass faster than the destination places it: waits until nothing of it is on the way. */
static int wait_placed(struct source *s, struct error *err) {
    json_t *args = json_pack("{s:I}", "pass", (json_int_t)ram_send_pass(s->send));
    return source_request(s, args, err) < 0 || source_await(s, REPLY_TIMEOUT, NULL, err) < 0 ? -1 : 0;
}

int source_iterate(struct source *s, struct error *err) {
    struct stop_rule rule = { .last = INT64_MAX / 2 };
    bool placed = false;
    for (;;) {
        if (source_scan(s, err) < 0) {
            return -1;
        }
        double pages = (double)s->status.remaining / RAM_PAGE_SIZE;
        int64_t forecast = s->pages_per_second > 0 ? (int64_t)(pages / s->pages_per_second * 1e9) : 0;
        forecast += s->scan_time; /* the last scan costs the same again, with the guest stopped */
        log_debug("scan %u: %.0f dirty pages, %.1f ms to send", s->status.passes, pages, (double)forecast / 1e6);
        bool stop = should_stop(&rule, forecast, downtime_limit(s));
        if (stop && !placed) {
            /* Once: from here on passes are small. The guest has run meanwhile, so look again. */
            if (wait_placed(s, err) < 0) {
                return -1;
            }
            placed = true;
            continue;
        }
        if (stop) {
            /* These pages stay marked: the final pass sends them with those of the last scan, after the VMM itself has
             * drained its block I/O to stop the guest. */
            return 0;
        }
        if (drain(s, err) < 0 || source_pass(s, err) < 0 || breathe(s, err) < 0) {
            return -1;
        }
    }
}
