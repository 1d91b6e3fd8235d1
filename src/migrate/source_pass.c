/* SPDX-License-Identifier: Apache-2.0 */
/* One pass over the dirty pages, and what it teaches. */
#include "migrate/source.h"

#include "base/bits.h"
#include "base/clock.h"
#include "base/fault.h"

/* Pages that took anything to send. */
static uint64_t pages_sent(struct source *s) {
    const struct ram_counters *n = ram_send_counters(s->sender.send);
    return atomic_load(&n->normal) + atomic_load(&n->delta) + atomic_load(&n->unchanged);
}

/* What this pass tells of the link and the memory, for the next decision. */
static void account_pass(struct source *s) {
    const struct pass_start *p = &s->sender.pass;
    uint64_t transferred = source_transferred(s), queued = peer_queued(&s->peer);
    struct forecast_pass pass = { .pages = pages_sent(s) - p->sent_pages,
                                  .sent = transferred - p->transferred,
                                  .zeros = atomic_load(&ram_send_counters(s->sender.send)->duplicate) - p->zeros,
                                  .time = clock_now() - p->at,
                                  .unchanged =
                                      atomic_load(&ram_send_counters(s->sender.send)->unchanged) - p->unchanged,
                                  .link_bound = ram_send_link_bound(s->sender.send) };
    pass.delivered = pass.sent + p->queued > queued ? pass.sent + p->queued - queued : 0;
    forecast_note_pass(&s->holder.forecast, &pass);
    forecast_note_least(&s->holder.forecast.round_trip, conn_round_trip(link_conn(s->peer.link), 0));
    pthread_mutex_lock(&s->status.lock);
    s->status.sent.transferred = transferred;
    s->status.sent.mbps = pass.time > 0 ? (double)pass.sent * 8e3 / (double)pass.time : 0;
    pthread_mutex_unlock(&s->status.lock);
}

static void begin(struct source *s, bool whole) {
    atomic_store(&ram_send_counters(s->sender.send)->done, 0);
    s->sender.pass = (struct pass_start){ .pages = s->sender.dirty,
                                          .sent_pages = pages_sent(s),
                                          .zeros = atomic_load(&ram_send_counters(s->sender.send)->duplicate),
                                          .unchanged = atomic_load(&ram_send_counters(s->sender.send)->unchanged),
                                          .at = clock_now(),
                                          .transferred = source_transferred(s),
                                          .queued = peer_queued(&s->peer) };
    bool stopped = s->switchover.stopped_at != 0;
    if (!stopped) { /* else giving memory back is downtime, and no page comes again */
        ram_send_set_cache(s->sender.send, s->means.plan.delta_cache);
    }
    ram_send_limit_cache(s->sender.send, stopped ? 0 : s->means.plan.delta_cache);
    ram_send_set_urgent(s->sender.send, stopped);
    ram_send_start(s->sender.send, whole);
}

void source_pass_begin_whole(struct source *s) {
    s->holder.deferral.on = false;
    begin(s, true);
}

/* A destination that pings but takes nothing must not keep a stopped guest waiting. */
#define STOPPED_PATIENCE (5 * CLOCK_S)

struct watch {
    uint64_t moved;
    int64_t moved_at; /* clock_now() of the last byte, or of the last page that needed none */
};

static int check_moving(struct source *s, struct watch *w, struct error *err) {
    uint64_t now = atomic_load(&ram_send_counters(s->sender.send)->done);
    for (unsigned i = 0; i < s->peer.channel_count;
         i++) { /* not the control connection, where pings move without end */
        now += atomic_load(&s->peer.channels[i].sent);
    }
    if (now != w->moved) {
        *w = (struct watch){ now, clock_now() };
    }
    if (s->switchover.stopped_at != 0 && clock_now() - w->moved_at > STOPPED_PATIENCE) {
        return error_set(err, ERROR_LINK,
                         "the destination takes no more of the last pages while the guest stands still");
    }
    return 0;
}

/* What a pass leaves dirty is what it passed over. */
static void count_waited(struct source *s) {
    s->sender.pass.waited = s->holder.deferral.on ? ram_dirty_pages(&s->sender.ram) : 0;
    if (fault_planned("leave-page", NULL)) {
        bits_set(s->sender.ram.blocks[0].dirty, 0);
    }
    for (size_t i = 0; fault_planned("lose-deferred", NULL) && i < s->sender.ram.count; i++) {
        bits_clear_range(s->sender.ram.blocks[i].dirty, 0, s->sender.ram.blocks[i].pages);
    }
    s->sender.dirty = s->sender.pass.waited;
    pthread_mutex_lock(&s->status.lock);
    s->status.sent.remaining = s->sender.pass.waited * RAM_PAGE_SIZE;
    s->status.sent.deferred += s->sender.pass.waited;
    pthread_mutex_unlock(&s->status.lock);
}

int source_pass_wait(struct source *s, struct error *err) {
    struct watch watch = { 0, clock_now() };
    int finished;
    while ((finished = ram_send_poll(s->sender.send, err)) == 0) {
        int64_t wait = s->switchover.stopped_at != 0 ? CLOCK_S : source_converge_wait(s);
        if (source_poll(s, ram_send_fd(s->sender.send), wait, err) < 0 || check_moving(s, &watch, err) < 0 ||
            source_converge_within(s, err) < 0) {
            return -1;
        }
    }
    if (finished < 0) {
        return -1;
    }
    account_pass(s);
    count_waited(s);
    events_emit(&s->events, "pass",
                json_pack("{s:i, s:I, s:I, s:I, s:f}", "pass", (int)ram_send_pass(s->sender.send), "pages",
                          (json_int_t)(s->sender.pass.pages - s->sender.pass.waited), "deferred",
                          (json_int_t)s->sender.pass.waited, "transferred", (json_int_t)s->status.sent.transferred,
                          "ms", (double)(clock_now() - s->sender.pass.at) / 1e6));
    return 0;
}

int source_pass(struct source *s, struct error *err) {
    source_defer_begin(s);
    begin(s, false);
    return source_pass_wait(s, err);
}
