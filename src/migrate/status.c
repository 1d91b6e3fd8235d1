/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/status.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "ram/block.h"

#include <sys/resource.h>

void status_init(struct status *s) {
    *s = (struct status){ .state = "setup", .stage = "connect", .started = clock_now(), .throttle.policy = "none" };
    pthread_mutex_init(&s->lock, NULL);
    s->times = (struct status_times){ STATUS_UNKNOWN, STATUS_UNKNOWN, STATUS_UNKNOWN, STATUS_UNKNOWN, STATUS_UNKNOWN,
                                      STATUS_UNKNOWN, STATUS_UNKNOWN, STATUS_UNKNOWN, STATUS_UNKNOWN };
}

void status_set_state(struct status *s, const char *state, const char *stage) {
    LOCK_GUARD(&s->lock);
    s->state = state;
    s->stage = stage;
}

void status_note(struct status *s, uint64_t *field, uint64_t value) {
    LOCK_GUARD(&s->lock);
    *field = value;
}

void status_note_time(struct status *s, int64_t *field, int64_t value) {
    LOCK_GUARD(&s->lock);
    *field = value;
}

static uint64_t load(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void set_ms(json_t *object, const char *name, int64_t ns) {
    if (ns != STATUS_UNKNOWN) {
        json_object_set_new(object, name, json_real((double)ns / 1e6));
    }
}

static json_t *ram_json(const struct status *s) {
    const struct ram_counters *n = s->counters;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:i, s:I, s:I, s:I}", "total",
                     (json_int_t)s->sent.ram_total, "transferred", (json_int_t)s->sent.transferred, "remaining",
                     (json_int_t)s->sent.remaining, "normal", (json_int_t)(n ? load(&n->normal) : 0), "duplicate",
                     (json_int_t)(n ? load(&n->duplicate) : 0), "unchanged", (json_int_t)(n ? load(&n->unchanged) : 0),
                     "delta", (json_int_t)(n ? load(&n->delta) : 0), "dirty-sync-count", (json_int_t)s->sent.passes,
                     "dirty-pages-rate", (json_int_t)s->sent.dirty_rate, "mbps", s->sent.mbps, "page-size",
                     (int)RAM_PAGE_SIZE, "delta-bytes", (json_int_t)(n ? load(&n->delta_bytes) : 0), "resent",
                     (json_int_t)(n ? load(&n->resent) : 0), "deferred", (json_int_t)s->sent.deferred);
}

static json_t *codecs_json(const struct ram_counters *n) {
    json_t *object = json_object();
    for (unsigned id = 0; n != NULL && id < CODEC_COUNT; id++) {
        uint64_t batches = load(&n->codecs[id].batches);
        if (batches > 0) {
            json_object_set_new(object, codec_name(id),
                                json_pack("{s:I, s:I, s:I}", "batches", (json_int_t)batches, "in",
                                          (json_int_t)load(&n->codecs[id].in), "out",
                                          (json_int_t)load(&n->codecs[id].out)));
        }
    }
    return object;
}

static json_t *switchover_json(const struct status_times *t) {
    json_t *object = json_object();
    set_ms(object, "stop", t->stop);
    set_ms(object, "final", t->final);
    set_ms(object, "device", t->device);
    set_ms(object, "load", t->load);
    set_ms(object, "run", t->run);
    return object;
}

/* Caller holds the lock. */
static json_t *query_locked(struct status *s) {
    json_t *object = json_pack("{s:s, s:s}", "status", s->state, "stage", s->stage);
    int64_t total = s->times.total != STATUS_UNKNOWN ? s->times.total : clock_now() - s->started;
    set_ms(object, "total-time", total);
    set_ms(object, "setup-time", s->times.setup);
    set_ms(object, "expected-downtime", s->times.expected);
    set_ms(object, "downtime", s->times.downtime);
    json_object_set_new(object, "ram", ram_json(s));
    json_object_set_new(object, "codecs", codecs_json(s->counters));
    json_object_set_new(object, "cpu-throttle-percentage", json_integer(s->throttle.percent));
    json_object_set_new(object, "throttle",
                        json_pack("{s:s, s:i, s:f}", "policy", s->throttle.policy, "max-percent", (int)s->throttle.most,
                                  "time", (double)s->throttle.held / 1e6));
    if (s->planned) {
        json_object_set_new(object, "plan",
                            json_pack("{s:i, s:f, s:I, s:I}", "compress-threads", (int)s->plan.compress_threads,
                                      "cpu-share", s->plan.cpu_share, "delta-cache", (json_int_t)s->plan.delta_cache,
                                      "digests", (json_int_t)s->plan.digest_bytes));
    }
    if (error_is_set(&s->error)) {
        json_object_set_new(object, "error",
                            json_pack("{s:s, s:s, s:s}", "stage", s->error_stage ? s->error_stage : s->stage, "class",
                                      error_class_name(s->error.class), "desc", s->error.desc));
        json_object_set_new(object, "error-desc", json_string(s->error.desc));
    }
    return object;
}

void status_note_way(struct status *s, const char *name, const char *why) {
    LOCK_GUARD(&s->lock);
    s->way.name = name;
    snprintf(s->way.why, sizeof(s->way.why), "%s", why);
}

json_t *status_query(struct status *s) {
    LOCK_GUARD(&s->lock);
    return query_locked(s);
}

json_t *status_json(struct status *s) {
    LOCK_GUARD(&s->lock);
    json_t *object = query_locked(s);
    json_object_set_new(object, "switchover", switchover_json(&s->times));
    json_object_set_new(object, "device-state", json_integer((json_int_t)s->sent.device_state));
    if (s->way.name != NULL) {
        json_object_set_new(object, "device-state-way", json_pack("{s:s, s:s}", "way", s->way.name, "why", s->way.why));
    }
    if (s->tracker != NULL) {
        json_object_set_new(object, "tracker", json_string(s->tracker));
        set_ms(object, "attach-stop", s->attach_stop);
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    set_ms(object, "cpu-time", clock_cpu());
    json_object_set_new(object, "max-rss", json_integer(usage.ru_maxrss));
    return object;
}
