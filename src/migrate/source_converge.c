/* SPDX-License-Identifier: Apache-2.0 */
/* Convergence (converge.h) on this side: what is measured for it, and what its decisions do. */
#include "migrate/source.h"

#include "base/clock.h"
#include "base/log.h"
#include "params/converge_params.h"
#include "policy/cadence.h"
#include "policy/converge_json.h"

#include <stdlib.h>

/* The guest runs while nobody has looked after it for ATTENTION, so it is looked after a few times as often. */
#define ATTENTION CLOCK_S
#define ATTEND_INTERVAL (200 * CLOCK_MS)

static struct converge_config config_of(struct source *s) {
    pthread_mutex_lock(&s->settings.lock);
    struct converge_config c = converge_params(&s->settings.params);
    pthread_mutex_unlock(&s->settings.lock);
    c.force = atomic_load(&s->holder.force);
    return c;
}

static int drop_stale_quota(void *opaque, struct error *err);

void source_converge_open(struct source *s) {
    struct error why = { 0 };
    pid_t *threads = NULL;
    size_t count = 0;
    forecast_init(&s->holder.forecast);
    s->holder.throttle.expiry = (struct loop_deadline){ .due = drop_stale_quota, .opaque = s };
    loop_arm(&s->hall.loop, &s->holder.throttle.expiry, clock_now() + ATTEND_INTERVAL);
    struct throttle_config config = { .pid = s->vmm->pid,
                                      .kind = (enum throttle_kind)source_param(s, PARAM_THROTTLE_ACTUATOR),
                                      .root = "",
                                      .attention = ATTENTION,
                                      .note = guardian_note_text,
                                      .opaque = &s->guardian };
    enum converge_policy policy = (enum converge_policy)source_param(s, PARAM_THROTTLE_POLICY);
    pthread_mutex_lock(&s->status.lock);
    s->status.throttle.policy = converge_policy_name(policy);
    pthread_mutex_unlock(&s->status.lock);
    if (s->vmm->ops->cpu_threads(s->vmm, &threads, &count, &why) == 0) {
        s->holder.throttle.actuator = throttle_open(&config, threads, count, &why);
    }
    free(threads);
    if (s->holder.throttle.actuator == NULL) {
        log_warning("the guest can't be held back: %s", why.desc);
        events_emit(&s->events, "throttle", json_pack("{s:i, s:s}", "percent", 0, "reason", why.desc));
    }
}

static void report_throttle(struct source *s, unsigned percent) {
    pthread_mutex_lock(&s->status.lock);
    s->status.throttle.percent = percent;
    s->status.throttle.most = percent > s->status.throttle.most ? percent : s->status.throttle.most;
    s->status.throttle.held =
        s->holder.throttle.actuator != NULL ? throttle_held_ns(s->holder.throttle.actuator) : s->status.throttle.held;
    pthread_mutex_unlock(&s->status.lock);
}

/* An actuator that does not work any more is no reason to end: without it the policy is "none". */
static void drop_throttle(struct source *s, const struct error *why) {
    log_warning("the guest can't be held back any more: %s", why->desc);
    events_emit(&s->events, "throttle", json_pack("{s:i, s:s}", "percent", 0, "reason", why->desc));
    report_throttle(s, 0);
    throttle_close(s->holder.throttle.actuator);
    ledger_stand(s->vmm->ledger, LEDGER_HELD, false);
    s->holder.throttle.actuator = NULL;
    s->holder.throttle.percent = 0;
}

static void apply_throttle(struct source *s, unsigned percent, const char *reason) {
    struct error why = { 0 };
    if (s->holder.throttle.actuator == NULL) {
        return;
    }
    if (percent > 0) {
        ledger_stand(s->vmm->ledger, LEDGER_HELD, true);
    }
    if (throttle_check(s->holder.throttle.actuator, &why) < 0 ||
        (percent != s->holder.throttle.percent && throttle_set(s->holder.throttle.actuator, percent, &why) < 0)) {
        drop_throttle(s, &why);
        return;
    }
    if (percent != s->holder.throttle.percent) {
        log_debug("throttle %u %%: %s", percent, reason);
        events_emit(&s->events, "throttle", json_pack("{s:i, s:s}", "percent", (int)percent, "reason", reason));
    }
    if (percent == 0 && s->holder.throttle.percent > 0) {
        ledger_stand(s->vmm->ledger, LEDGER_HELD, false);
    }
    s->holder.throttle.percent = percent;
    s->holder.throttle.decided_at = clock_now();
    report_throttle(s, percent);
}

/* So long the actuator holds the guest without a decision. */
static void set_attention(struct source *s, int64_t attention) {
    if (s->holder.throttle.actuator != NULL) {
        throttle_mind(s->holder.throttle.actuator, attention);
    }
}

/* A guest that has not heard of the stop by then, on a busy host say, runs freely until it does. */
#define STOP_PATIENCE (100 * CLOCK_MS)

static unsigned stop_throttle(const struct source *s) {
    return s->holder.throttle.actuator != NULL && throttle_kind(s->holder.throttle.actuator) == THROTTLE_QUOTA
               ? FORECAST_EASED_QUOTA
               : FORECAST_EASED;
}

void source_converge_before_stop(struct source *s) {
    unsigned most = stop_throttle(s);
    if (s->holder.throttle.percent > most) {
        apply_throttle(s, most, "the guest is to hear that it shall stop");
    }
    set_attention(s, STOP_PATIENCE);
}

/* A guest that is held by ptrace is let run by itself when nobody has looked after it for a while; one that is held by
 * a quota is let run here. The next decision holds it again. */
static int drop_stale_quota(void *opaque, struct error *err) {
    struct source *s = opaque;
    (void)err;
    if (holder_by_quota(&s->holder) && clock_now() - s->holder.throttle.decided_at > ATTENTION) {
        apply_throttle(s, 0, "the destination takes its time");
    }
    loop_arm(&s->hall.loop, &s->holder.throttle.expiry, clock_now() + ATTEND_INTERVAL);
    return 0;
}

void source_converge_release(struct source *s) {
    apply_throttle(s, 0, "the switchover");
}

void source_converge_close(struct source *s) {
    loop_disarm(&s->hall.loop, &s->holder.throttle.expiry);
    if (s->holder.throttle.actuator != NULL) {
        report_throttle(s, 0);
    }
    throttle_close(s->holder.throttle.actuator);
    ledger_stand(s->vmm->ledger, LEDGER_HELD, false);
    s->holder.throttle.actuator = NULL;
}

/* Bytes that the guest will write from the decision to stop it until it stands still. */
static double growth(const struct source *s) {
    const struct converge_rate_state *learned = &s->holder.converge.rate;
    unsigned most = stop_throttle(s), eased = s->holder.throttle.percent < most ? s->holder.throttle.percent : most;
    double rate = s->holder.rate.interval > 0
                      ? (double)s->holder.rate.pages * RAM_PAGE_SIZE * 1e9 / (double)s->holder.rate.interval
                      : 0;
    /* A sample of a guest that is held by 99 % is luck; what it would write freely was measured for longer. */
    bool by_sample = s->holder.throttle.percent == 0 || !learned->known;
    double freely = by_sample ? rate * 100 / (double)(100 - s->holder.throttle.percent) : learned->free_rate;
    return forecast_growth(&s->holder.forecast, freely, eased);
}

static struct converge_input measure(struct source *s, bool pass_ended, bool sampled) {
    const struct forecast *f = &s->holder.forecast;
    uint64_t done = atomic_load(&ram_send_counters(s->sender.send)->done);
    uint64_t left = pass_ended ? s->sender.dirty : s->sender.pass.pages > done ? s->sender.pass.pages - done : 0;
    struct converge_input in = {
        .now = clock_now(),
        .started = s->status.started,
        .ram = ram_pages(&s->sender.ram) * RAM_PAGE_SIZE,
        .remaining = (left + (pass_ended ? 0 : ram_send_fresh_pages(s->sender.send))) * RAM_PAGE_SIZE,
        .wire_rate = forecast_rate(f),
        .ratio = forecast_ratio(f),
        .dirty_rate = sampled && s->holder.rate.interval > 0
                          ? (double)s->holder.rate.pages * RAM_PAGE_SIZE * 1e9 / (double)s->holder.rate.interval
                          : -1,
        .dirty_interval = s->holder.rate.interval,
        .pass = ram_send_pass(s->sender.send),
        .pass_ended = pass_ended,
        .pass_sent = (s->sender.pass.pages - s->sender.pass.waited) * RAM_PAGE_SIZE,
        .pass_dirtied = s->sender.pass.dirtied * RAM_PAGE_SIZE,
        .pass_time = s->sender.scanned_at - s->sender.pass.at,
        .throttle = s->holder.throttle.percent,
        .can_throttle = s->holder.throttle.actuator != NULL,
        .overhead = forecast_overhead(f),
    };
    /* What is on its way has to get there first, and the guest still writes until it stands still. */
    double queued = in.ratio > 0 ? (double)peer_queued(&s->peer) / in.ratio : 0;
    in.remaining += (uint64_t)(queued + (pass_ended ? growth(s) : 0));
    return in;
}

static int give_up(const struct converge_decision *d, struct error *err) {
    return error_set(err, ERROR_TIMEOUT,
                     "%s: throttle-policy and max-cpu-throttle say how much the guest may be held back for it; "
                     "timeout-action=force switches over however long that takes",
                     d->reason);
}

/* Whoever puts the events through the function again needs the parameters too: at first, and when one has changed. */
static void tell_config(struct source *s, const struct converge_config *config) {
    json_t *json = converge_config_json(config);
    if (s->holder.converge_config == NULL || !json_equal(json, s->holder.converge_config)) {
        json_decref(s->holder.converge_config);
        s->holder.converge_config = json_incref(json);
        events_emit(&s->events, "converge-config", json_incref(json));
        pthread_mutex_lock(&s->status.lock);
        s->status.throttle.policy = converge_policy_name(config->policy);
        pthread_mutex_unlock(&s->status.lock);
    }
    json_decref(json);
}

/* Names what can be done now: without a control socket that is little. */
static void offer_force(struct source *s, const struct converge_decision *d) {
    const char *path = s->config->control_path;
    double seconds = (double)d->downtime / 1e9;
    if (path != NULL) {
        log_warning("%s: 'migrate-force-switchover' on %s stops the guest at the end of this pass, for %.1f s or so",
                    d->reason, path, seconds);
    } else {
        log_warning("%s: to stop the guest now would take %.1f s or so. Ctrl-C ends this migration, the guest runs on; "
                    "with --control PATH, or a larger downtime-limit, the next one can be told to",
                    d->reason, seconds);
    }
    events_emit(&s->events, "offer", json_pack("{s:s}", "reason", d->reason));
}

static int decide(struct source *s, bool pass_ended, bool sampled, struct converge_decision *d, struct error *err) {
    struct converge_config config = config_of(s);
    struct converge_input in = measure(s, pass_ended, sampled);
    converge_step(&config, &in, &s->holder.converge, d);
    tell_config(s, &config);
    events_emit(&s->events, "converge", converge_input_json(&in, d));
    if (d->downtime != INT64_MAX) {
        status_note_time(&s->status, &s->status.times.expected, d->downtime);
    }
    if (d->action == CONVERGE_GIVE_UP) {
        return give_up(d, err);
    }
    if (d->offer_force && !s->holder.force_offered) {
        s->holder.force_offered = true;
        offer_force(s, d);
    }
    bool ends = d->action == CONVERGE_STOP || d->action == CONVERGE_FORCE;
    apply_throttle(s, ends ? s->holder.throttle.percent : d->throttle,
                   d->reason); /* an end within a pass is at that pass's end */
    return 0;
}

int source_converge_decide(struct source *s, struct converge_decision *d, struct error *err) {
    const struct forecast *f = &s->holder.forecast;
    log_debug("measured, ms: scan %.2f, drain %.2f, smallest pass %.2f, round trip %.2f", (double)f->scan / 1e6,
              (double)f->drain / 1e6, (double)f->floor / 1e6, (double)f->round_trip / 1e6);
    set_attention(s, ATTENTION); /* a stop that came to nothing had changed that */
    return decide(s, true, true, d, err);
}

/* In pass 1 everything goes anyway: what is written meanwhile says little, and protecting it costs the guest faults.
 * But for the few times that heat is sampled. */
static bool samples(struct source *s) {
    bool rate = source_param(s, PARAM_THROTTLE_POLICY) == CONVERGE_RATE;
    return rate && s->holder.throttle.actuator != NULL && s->switchover.stopped_at == 0 &&
           ram_send_pass(s->sender.send) > 1;
}

/* ns until the next decision is due. */
static int64_t decision_wait(struct source *s) {
    int64_t since = s->holder.rate.at > s->holder.decided_at ? s->holder.rate.at : s->holder.decided_at;
    int64_t left = since + cadence_interval(samples(s), s->sender.view.scan_time) - clock_now();
    return left > 0 ? left : 0;
}

int64_t source_converge_wait(struct source *s) {
    int64_t left = decision_wait(s), heat = samples(s) ? INT64_MAX : source_defer_wait(s);
    left = left < heat ? left : heat;
    return s->holder.throttle.percent > 0 && left > ATTEND_INTERVAL ? ATTEND_INTERVAL : left;
}

int source_converge_within(struct source *s, struct error *err) {
    if (s->switchover.stopped_at != 0) {
        return 0;
    }
    bool sampled = samples(s);
    if (!sampled && source_defer_wait(s) == 0) {
        uint64_t before = s->holder.rate.found;
        if (source_sample(s, err) < 0) {
            return -1;
        }
        source_defer_sampled(s, s->holder.rate.found - before);
        return 0;
    }
    if (decision_wait(s) > 0) {
        apply_throttle(s, s->holder.throttle.percent, "as it was");
        return 0;
    }
    if (sampled) {
        if (source_sample(s, err) < 0) {
            return -1;
        }
        source_rate(s);
    }
    s->holder.decided_at = clock_now();
    struct converge_decision d;
    return decide(s, false, sampled, &d, err);
}
