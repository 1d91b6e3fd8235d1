/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the guest's stop to its run at the destination. The order is the rule (docs/correctness.md):
 *
 *   stop       the destination's VMM waits for device state; ours stops the guest and holds its device state back
 *   final      the last scan, the last pages, and the destination's word that all of it is in place
 *   device     only now the device state is let through: loading it reads guest memory
 *   hand-over  the destination says "loaded"; from here on the guest never runs here again
 *   run        the destination lets it run
 *
 * How long all of it may take: switchover.h.
 */
#include "migrate/source.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#include <unistd.h>

#define FINAL_TIMEOUT (10 * CLOCK_S)
#define DEVICE_TIMEOUT (60 * CLOCK_S)
#define SWITCHOVER_SILENCE (3 * CLOCK_S)

static void note_time(struct source *s, int64_t *field, int64_t since) {
    status_note_time(&s->status, field, clock_now() - since);
}

static void limit_silence(struct source *s, int64_t most) {
    int64_t timeout = source_param(s, PARAM_LINK_TIMEOUT) * CLOCK_S;
    link_set_timeout(s->peer.link, timeout < most ? timeout : most);
}

/* The VMM fails also when what it writes cannot be passed on: then that is the cause. */
static int vmm_failed(struct source *s, struct error *err) {
    if (err->class == ERROR_VMM && relay_broke(&s->switchover.relay)) {
        error_clear(err);
        relay_result(&s->switchover.relay, err);
    }
    return -1;
}

static int start_relay(struct source *s, int *vmm_end, struct error *err) {
    struct vmm_filter *filter;
    return source_open_filter(s, &filter, err) < 0
               ? -1
               : relay_open(&s->switchover.relay, RELAY_TO_WIRE, s->peer.device.fd, filter, vmm_end, err);
}

int source_stop(struct source *s, struct error *err) {
    /* Before the destination's VMM is of no other use any more: */
    if (s->vmm->ops->can_move(s->vmm, err) < 0) {
        return -1;
    }
    if (source_request(s, NULL, err) < 0 || source_await(s, REPLY_TIMEOUT, NULL, err) < 0) {
        return -1;
    }
    CLEANUP_CLOSE int vmm_end = -1;
    if (start_relay(s, &vmm_end, err) < 0) {
        return -1;
    }
    /* Somebody may have stopped the guest or let it run since it was inspected. */
    if (s->vmm->ops->guest_running(s->vmm, &s->switchover.guest_was_running, err) < 0) {
        return -1;
    }
    /* While the guest stands still, silence is not waited for as long as else: better the guest runs on here. */
    limit_silence(s, SWITCHOVER_SILENCE);
    int64_t begin = clock_now(), stopped_at;
    source_converge_before_stop(s);
    switchover_ask(&s->switchover);
    if (s->vmm->ops->stop(s->vmm, vmm_end, &stopped_at, err) < 0) {
        return vmm_failed(s, err);
    }
    switchover_stopped(&s->switchover, stopped_at);
    note_time(s, &s->status.times.stop, begin);
    source_converge_release(s);
    return 0;
}

/* Sends all that is dirty, and waits until it is in place. */
static int final_pass(struct source *s, struct error *err) {
    source_pass_begin_whole(s);
    /* While the channels send: */
    if (s->vmm->ops->unchanged(s->vmm, err) < 0 || source_pass_wait(s, err) < 0) {
        return -1;
    }
    json_t *args = json_pack("{s:I}", "pass", (json_int_t)ram_send_pass(s->sender.send));
    if (source_request(s, args, err) < 0) {
        return -1;
    }
    if (ram_dirty_pages(&s->sender.ram) !=
        0) { /* while the destination places the rest; pages that waited must be in it */
        return error_set(err, ERROR_SYSTEM, "the final pass has left pages behind");
    }
    return source_await(s, FINAL_TIMEOUT, NULL, err);
}

/* What the destination rejects is sent again by software, so one more pass is enough; a peer that goes on rejecting
 * must not keep the guest standing. */
#define FINAL_PASSES 3

int source_final(struct source *s, struct error *err) {
    int64_t begin = clock_now();
    if (source_scan(s, err) < 0) {
        return -1;
    }
    source_settle(s); /* the VMM has drained to stop the guest */
    for (unsigned i = 1;; i++) {
        if (final_pass(s, err) < 0) {
            return -1;
        }
        if (rejections_mark(&s->sender.rejections, s->sender.send) == 0) {
            break;
        }
        if (i == FINAL_PASSES) {
            return error_set(err, ERROR_PEER, "the destination does not accept the last pages");
        }
    }
    note_time(s, &s->status.times.final, begin);
    return 0;
}

int source_device(struct source *s, struct error *err) {
    int64_t begin = clock_now();
    if (source_request(s, NULL, err) < 0 || s->vmm->ops->release_device_state(s->vmm, err) < 0) {
        return -1;
    }
    if (s->vmm->ops->wait_saved(s->vmm, DEVICE_TIMEOUT, err) < 0) {
        return vmm_failed(s, err);
    }
    note_time(s, &s->status.times.device, begin);
    begin = clock_now();
    events_emit(&s->events, "saved", NULL);
    /* While the destination loads: */
    if (source_verify(s, err) < 0 || source_take_faults(s, "load", err) < 0) {
        return -1;
    }
    if (source_await(s, DEVICE_TIMEOUT, NULL, err) < 0) {
        return -1;
    }
    source_tell_filter(s);
    if (s->sender.rejections.waiting != 0) {
        return error_set(err, ERROR_PEER, "the destination rejects pages of which it said that they were in place");
    }
    note_time(s, &s->status.times.load, begin);
    status_note(&s->status, &s->status.sent.device_state, atomic_load(&s->switchover.relay.bytes));
    return 0;
}

int source_hand_over(struct source *s, struct error *err) {
    /* The last moment at which a cancel counts. */
    if (source_poll(s, -1, 0, err) < 0) {
        return -1;
    }
    if (s->peer.reply != NULL) { /* it would be taken for the answer to 'run' */
        return error_set(err, ERROR_PEER, "the destination has answered to nothing that it was asked");
    }
    if (s->vmm->ops->stands_still(s->vmm, err) < 0) {
        return -1;
    }
    switchover_hand_over(&s->switchover); /* before the move: a disk that hangs in it is a word that does not come */
    if (ledger_move(s->vmm->ledger, LEDGER_NOBODY, err) < 0) {
        return -1;
    }
    source_wait_handed_over(s);
    limit_silence(s, INT64_MAX); /* now a doubt would be worse than a wait */
    return 0;
}

/* The guest is the destination's now, whatever our own record says. */
static void note_arrival(struct source *s, bool running) {
    struct error err = { 0 };
    if (ledger_move(s->vmm->ledger, LEDGER_DESTINATION, &err) < 0) {
        log_warning("%s", err.desc);
    }
    if (running) {
        ledger_note_ran(s->vmm->ledger);
    }
}

int source_run_destination(struct source *s, struct error *err) {
    int64_t begin = clock_now();
    json_t *args = json_pack("{s:b}", "running", s->switchover.guest_was_running);
    json_t *reply;
    if (source_request(s, args, err) < 0 || source_await(s, REPLY_TIMEOUT, &reply, err) < 0) {
        return -1;
    }
    switchover_end(&s->switchover);
    note_time(s, &s->status.times.run, begin);
    note_time(s, &s->status.times.total, s->status.started);
    note_arrival(s, json_is_true(json_object_get(reply, "running")));
    if (json_is_true(json_object_get(reply, "running"))) {
        note_time(s, &s->status.times.downtime, s->switchover.stopped_at);
    }
    json_decref(reply);
    return 0;
}

int source_detach(struct source *s, struct error *err) {
    struct error ignored = { 0 };
    (void)err;
    if (link_send(s->peer.link, json_pack("{s:s}", "type", "bye"), &ignored) < 0) {
        log_debug("the destination has gone already: %s", ignored.desc);
    }
    bool quit = source_param(s, PARAM_SOURCE_QUIT) != 0;
    error_clear(&ignored);
    if (quit ? s->vmm->ops->quit(s->vmm, &ignored) < 0 : s->vmm->ops->undo(s->vmm, false, &ignored) < 0) {
        log_warning("the migration is complete, but the source's VMM was not left as it was: %s", ignored.desc);
    }
    return 0;
}
