/* SPDX-License-Identifier: Apache-2.0 */
/* The plan in force (plan.h): sampled, made again while running, and handed to the parts that it concerns. */
#include "migrate/source.h"

#include "base/clock.h"
#include "base/log.h"
#include "migrate/affinity.h"
#include "params/plan_params.h"

#include <unistd.h>

#define PLAN_INTERVAL (250 * CLOCK_MS)
#define MOST_THREADS 16 /* of auto: one of them fills a 10 Gbit/s link with LZ4 */

/* What the user said of the means. */
static struct plan_input asked(struct source *s) {
    pthread_mutex_lock(&s->settings.lock);
    struct plan_input in = plan_params(&s->settings.params);
    pthread_mutex_unlock(&s->settings.lock);
    return in;
}

static void sample(struct source *s, struct plan_input *in) {
    struct host_load load;
    in->now = clock_now();
    host_load_sample(s->means.meter, in->now, clock_cpu(), &load);
    in->cpus = load.cpus;
    in->cpu_idle = load.cpu_idle;
    in->cpu_own = load.cpu_own;
    in->memory_pressure = load.memory_pressure;
    in->memory_available = load.memory_available;
    /* The guest's own threads tell whether we are in its way; without its process, the whole host has to. */
    double waiting = s->vmm->pid > 0 ? host_waiting_sample(&s->means.waiting, "", s->vmm->pid, in->now) : HOST_UNKNOWN;
    in->cpu_pressure = s->vmm->pid == 0 ? load.cpu_pressure : holder_by_quota(&s->holder) ? HOST_UNKNOWN : waiting;
}

static void tell(struct source *s) {
    const struct plan *p = &s->means.plan;
    log_debug("plan: %u threads, %.2f CPUs, %llu MiB for changes (%s)", p->compress_threads, p->cpu_share,
              (unsigned long long)p->delta_cache >> 20, p->reason);
    events_emit(&s->events, "plan",
                json_pack("{s:i, s:f, s:I, s:I, s:s}", "compress-threads", (int)p->compress_threads, "cpu-share",
                          p->cpu_share, "delta-cache", (json_int_t)p->delta_cache, "digests",
                          (json_int_t)p->digest_bytes, "reason", p->reason));
    pthread_mutex_lock(&s->status.lock);
    s->status.plan = *p;
    s->status.planned = true;
    pthread_mutex_unlock(&s->status.lock);
}

static void apply(struct source *s) {
    if (s->sender.send != NULL) {
        ram_send_set_threads(s->sender.send, s->means.plan.compress_threads, s->means.plan.cpu_share);
        ram_send_limit_cache(s->sender.send, s->means.plan.delta_cache); /* a smaller one is made at the next pass */
    }
}

static void make(struct source *s, bool first) {
    struct plan_input in = asked(s);
    sample(s, &in);
    in.guest_bytes = ram_pages(&s->sender.ram) * RAM_PAGE_SIZE;
    in.channels = s->peer.channel_count > 0 ? s->peer.channel_count : 1;
    in.link_bound = s->sender.send != NULL && ram_send_link_bound(s->sender.send);
    in.memory_own = s->sender.send != NULL ? ram_send_cache_held(s->sender.send) : 0;
    struct plan next;
    plan_make(&in, first ? NULL : &s->means.plan, &next);
    bool differs = first || plan_differs(&s->means.plan, &next);
    s->means.plan = next;
    s->means.planned_at = in.now;
    cpu_pace_set(&s->means.pace, in.cpu_budget);
    apply(s);
    if (differs) {
        tell(s);
    }
}

int source_plan_open(struct source *s, struct error *err) {
    cpu_pace_init(&s->means.pace, 0);
    s->means.meter = host_load_open("", err);
    if (s->means.meter == NULL || affinity_apply(s->settings.params.cpu_affinity, err) < 0) {
        return -1;
    }
    struct plan_input in;
    sample(s, &in); /* what the next one is measured against */
    return 0;
}

/* Not while the guest stands still: then nothing is to be saved. */
static int make_again(void *opaque, struct error *err) {
    struct source *s = opaque;
    (void)err;
    if (s->sender.send != NULL && s->switchover.stopped_at == 0) {
        make(s, false);
    }
    loop_arm(&s->hall.loop, &s->means.again, clock_now() + PLAN_INTERVAL);
    return 0;
}

void source_plan_begin(struct source *s) {
    make(s, true);
    s->means.again = (struct loop_deadline){ .due = make_again, .opaque = s };
    loop_arm(&s->hall.loop, &s->means.again, clock_now() + PLAN_INTERVAL);
}

unsigned source_plan_most_threads(struct source *s) {
    int64_t set = asked(s).compress_threads;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return set != PLAN_AUTO ? (unsigned)set : cpus < 1 ? 1 : cpus < MOST_THREADS ? (unsigned)cpus : MOST_THREADS;
}

void source_plan_close(struct source *s) {
    loop_disarm(&s->hall.loop, &s->means.again);
    host_load_close(s->means.meter);
    host_waiting_free(&s->means.waiting);
    cpu_pace_destroy(&s->means.pace);
}
