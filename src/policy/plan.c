/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/plan.h"

#include "base/clock.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>

#define PAGE UINT64_C(4096)
#define MIB (UINT64_C(1) << 20)
#define DIGEST_BYTES UINT64_C(16) /* a page */

/* CPU. The least share: where nothing is ever idle the migration goes on like any other task, and at nice 5 it hardly
 * hurts: with less, LZ4 would not pay at 1 Gbit/s, and raw pages take the guest's CPU for longer. */
#define LEAST_SHARE 0.5
/* While it is known that the guest's threads do not wait for a CPU, what is idle is no limit below one: others of the
 * host then get as much as they want, but for the quarter of a CPU that a thread at nice 5 takes beside one of theirs.
 */
#define CALM_SHARE 1.0
#define CALM_PART 0.75 /* and a quarter of a CPU is worth a thread, not half of one: nobody else would use it */
/* Where the link is what is waited for the chooser of codecs keeps the threads within the share (ram/choice.h), so that
 * there are rather too many: one gets less than a CPU by the clock. Elsewhere their number is all that does. */
#define THREAD_STRETCH 1.2
#define BOUND_PART 0.9
#define BOUND_AFTER (4 * CLOCK_S) /* since the guest had to wait */
#define RAISE 0.25                /* CPUs a second, at least */
#define PRESSURE_HIGH 25.0
#define PRESSURE_LOW 10.0
#define PRESSURE_S 0.5
#define NOTHING_IDLE 0.02 /* of the CPUs; the only sign of pressure where the kernel does not count it */
#define BACK_OFF_INTERVAL CLOCK_S
#define FALL_S 0.8 /* time constants of the smoothing */
#define RISE_S 3.0
#define LONGEST_STEP_S 5.0
/* What is not another share: within so many CPUs, or so much of the share before. */
#define FALL_CPUS 0.15
#define FALL_PART 0.15
#define RISE_CPUS 0.3
#define RISE_PART 0.3
#define RISE_HOLD (4 * CLOCK_S) /* after a change */
#define NEAR_LIMIT                                                                                                     \
    0.9 /* is taken for all of it: something always runs, and a smoothed measure never quite gets there */
#define BOUND_NS (5 * CLOCK_S) /* that a bottleneck is remembered: it moves to and fro within a pass */

/* Memory */
#define MEMORY_HIGH 10.0
#define MEMORY_LOW 2.0
#define LEAST_DELTA (16 * MIB) /* a smaller cache has forgotten a page before it comes again */

static double lesser(double a, double b) {
    return a < b ? a : b;
}

static double greater(double a, double b) {
    return a > b ? a : b;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

uint64_t plan_buffer_bytes(unsigned pages_per_batch) {
    return 2 * PAGE * (pages_per_batch > 0 ? pages_per_batch : 1);
}

/* What no plan goes over, in CPUs. */
static double hard_limit(const struct plan_input *in) {
    double limit = in->cpus > 0 ? in->cpus : 1;
    return in->cpu_budget > 0 ? lesser(limit, in->cpu_budget / 100.0) : limit;
}

/* CPUs that nobody else uses. While nothing is known of that it is one, or what we use already. */
static double measured_available(const struct plan_input *in) {
    double own = greater(in->cpu_own, 0), cpus = in->cpus > 0 ? in->cpus : 1;
    return lesser(in->cpu_idle >= 0 ? in->cpu_idle + own : greater(own, 1), cpus);
}

static double seconds_since(const struct plan_input *in, const struct plan *previous) {
    double s = (double)(in->now - previous->state.at) / (double)CLOCK_S;
    return lesser(greater(s, 0), LONGEST_STEP_S);
}

/* Faster down than up: to be late with a CPU that came free costs us a little, to be late in giving one up costs the
 * guest. */
static double smooth(double before, double measured, double seconds) {
    return before + (measured - before) * seconds / (seconds + (measured < before ? FALL_S : RISE_S));
}

/* Within a quarter of a second a thread that sleeps most of the time waits for a CPU now more and now less. */
static double smooth_pressure(const struct plan_input *in, double before, double seconds) {
    if (in->cpu_pressure < 0 || before < 0) {
        return in->cpu_pressure;
    }
    return before + (in->cpu_pressure - before) * seconds / (seconds + PRESSURE_S);
}

static bool under_pressure(const struct plan_input *in, double pressure) {
    if (pressure >= 0) { /* the smoothed one remembers a wait for which the share was halved already */
        return pressure > PRESSURE_HIGH && in->cpu_pressure > PRESSURE_HIGH;
    }
    return in->cpu_idle >= 0 && in->cpu_idle < NOTHING_IDLE * in->cpus;
}

static bool calm(const struct plan_input *in, double pressure) {
    return pressure >= 0 ? pressure < PRESSURE_LOW : !under_pressure(in, pressure);
}

/* It is known that its threads do not wait for CPUs. */
static bool guest_is_calm(double pressure, bool before) {
    return pressure >= 0 && pressure < (before ? PRESSURE_HIGH : PRESSURE_LOW);
}

/* Halved under pressure, raised a step at a time without. From what is in use, not from a ceiling that nothing reached:
 * else it would take seconds until the guest feels it. */
static void move_ceiling(const struct plan_input *in, const struct plan *previous, double seconds,
                         struct plan_memory *s) {
    double cpus = in->cpus > 0 ? in->cpus : 1;
    bool wait = in->now - s->backed_off < BACK_OFF_INTERVAL;
    if (under_pressure(in, s->pressure) && !wait) {
        s->ceiling = greater(lesser(s->ceiling, previous ? previous->cpu_share : s->available) / 2, LEAST_SHARE);
        s->backed_off = in->now;
    } else if (calm(in, s->pressure)) {
        s->ceiling += seconds * greater(RAISE, cpus / 16);
    }
    s->ceiling = lesser(s->ceiling, cpus);
}

/* Whether to stay with the share before rather than to take `wanted`. */
static bool stays(const struct plan_input *in, const struct plan *previous, double wanted, double limit) {
    double before = previous->cpu_share;
    if (wanted <= before) {
        return before <= limit && before - wanted <= greater(FALL_CPUS, FALL_PART * before);
    }
    if (in->now - previous->state.changed < RISE_HOLD) {
        return true;
    }
    /* at the limit there is nothing to be unsure of, and what is near it would else stay short of it for ever */
    return wanted < limit && wanted - before <= greater(RISE_CPUS, RISE_PART * before);
}

static const char *share_reason(double before, double share, double limit, const struct plan_memory *s) {
    if (share >= before) {
        return limit < before ? "the CPU limit was lowered" : "more CPUs are idle";
    }
    if (limit < share) {
        return "the CPU limit was lowered";
    }
    return s->ceiling < s->available ? "tasks of the host wait for CPUs" : "fewer CPUs are idle";
}

/* The share, and why it is another one. */
static void plan_cpu(const struct plan_input *in, const struct plan *previous, struct plan *plan) {
    struct plan_memory *s = &plan->state;
    double measured = measured_available(in), limit = hard_limit(in), seconds = 0;
    if (previous == NULL) {
        *s = (struct plan_memory){ .available = measured,
                                   .ceiling = greater(in->cpus, 1),
                                   .pressure = in->cpu_pressure,
                                   .changed = in->now - RISE_HOLD,
                                   .backed_off = in->now - BOUND_AFTER };
    } else {
        *s = previous->state;
        seconds = seconds_since(in, previous);
        s->pressure = smooth_pressure(in, s->pressure, seconds);
        s->available = s->measured ? smooth(s->available, measured, seconds) : measured;
    }
    s->at = in->now;
    s->measured |= in->cpu_idle >= 0;
    move_ceiling(in, previous, seconds, s);

    s->calm = guest_is_calm(s->pressure, s->calm);
    double least = s->calm ? CALM_SHARE : LEAST_SHARE; /* the ceiling still tells when it waited lately */
    double share = greater(lesser(greater(s->available, least), s->ceiling), LEAST_SHARE);
    double wanted = share < NEAR_LIMIT * limit ? share : limit;
    plan->cpu_share = wanted;
    plan->reason = "first plan";
    if (previous == NULL) {
        return;
    }
    if (previous->state.measured == s->measured && stays(in, previous, wanted, limit)) {
        plan->cpu_share = previous->cpu_share;
        plan->reason = "no change";
        return;
    }
    plan->reason = share_reason(previous->cpu_share, share, limit, s);
    s->changed = in->now;
}

static unsigned budget_threads(const struct plan_input *in) {
    return in->cpu_budget > 0 ? (in->cpu_budget - 1) / 100 + 1 : UINT_MAX;
}

/* The user's number or ours, within the budget. */
static unsigned threads(const struct plan_input *in, int64_t fixed, unsigned planned) {
    uint64_t n = fixed > 0 ? (uint64_t)fixed : planned;
    n = least(n, budget_threads(in));
    return n > 0 ? (unsigned)n : 1;
}

static bool link_was_bound(const struct plan_input *in, const struct plan_memory *s) {
    return s->link_seen && in->now - s->link_bound < BOUND_NS;
}

/* How many threads use the share. */
static unsigned share_threads(const struct plan_input *in, const struct plan *plan, bool link_bound) {
    double cpus = in->cpus > 0 ? in->cpus : 1, n = plan->cpu_share + (plan->state.calm ? CALM_PART : 0.5);
    if (link_bound && in->now - plan->state.backed_off >= BOUND_AFTER) {
        n = greater(n, lesser(plan->cpu_share * THREAD_STRETCH + BOUND_PART, ceil(cpus)));
    }
    return (unsigned)lesser(n, PLAN_MAX_THREADS);
}

static void plan_threads(const struct plan_input *in, struct plan *plan) {
    struct plan_memory *s = &plan->state;
    if (in->link_bound) {
        s->link_seen = true;
        s->link_bound = in->now;
    }
    unsigned n = share_threads(in, plan, link_was_bound(in, s));
    /* Where the link has room to spare the channels' own threads are enough to fill what there is of it. */
    unsigned compress = link_was_bound(in, s) || n < in->channels ? n : in->channels;
    plan->compress_threads = threads(in, in->compress_threads, compress);
    /* decompression takes a half to a quarter of the time (row D1 has 1:4), placing what came takes the rest */
    plan->decompress_threads = threads(in, in->decompress_threads, (n + 1) / 2);
}

/* Two batches for each thread of ours, so that none waits for another; one a channel is what can't be done without. */
static uint64_t buffers_for(const struct plan_input *in, unsigned threads, uint64_t budget) {
    uint64_t fewest = in->channels > 0 ? in->channels : 1;
    uint64_t n = least(fewest + 2 * (uint64_t)threads, budget / plan_buffer_bytes(in->pages_per_batch));
    return n > fewest ? n : fewest;
}

/* Threads that a later plan may come to. */
static unsigned most_threads(const struct plan_input *in) {
    unsigned cpus = in->cpus > 0 && in->cpus < PLAN_MAX_THREADS ? (unsigned)ceil(in->cpus) : PLAN_MAX_THREADS;
    unsigned compress = threads(in, in->compress_threads, cpus);
    unsigned decompress = threads(in, in->decompress_threads, cpus);
    return compress > decompress ? compress : decompress;
}

/* What the buffers take at most: what is left for the cache is not to change, and the cache with it, as threads come
 * and go. */
static uint64_t plan_buffers(const struct plan_input *in, struct plan *plan, uint64_t budget) {
    unsigned now =
        plan->compress_threads > plan->decompress_threads ? plan->compress_threads : plan->decompress_threads;
    plan->buffers = (unsigned)buffers_for(in, now, budget);
    return buffers_for(in, most_threads(in), budget) * plan_buffer_bytes(in->pages_per_batch);
}

static bool short_of_memory(const struct plan_input *in, bool before) {
    return in->memory_pressure > (before ? MEMORY_LOW : MEMORY_HIGH);
}

/* A share of what the host has, and not more than can be of use: where more than half of a guest is written again and
 * again no cache helps. It is only taken as far as there are such pages. */
static uint64_t auto_budget(const struct plan_input *in, const struct plan *previous) {
    uint64_t budget = least((in->memory_available + in->memory_own) / 8, in->guest_bytes / 2 + 64 * MIB);
    uint64_t before = previous != NULL ? previous->state.memory_budget : 0;
    if (budget >= before - before / 4 && budget <= before + before / 2) {
        return before;
    }
    return budget;
}

static uint64_t digest_need(const struct plan_input *in) {
    return (in->guest_bytes / PAGE + (in->guest_bytes % PAGE != 0)) * DIGEST_BYTES;
}

/* What the plan gives the delta cache of `left` bytes. */
static uint64_t auto_delta(const struct plan_input *in, const struct plan *previous, const struct plan *plan,
                           uint64_t left) {
    bool had = previous != NULL && previous->delta_cache > 0;
    uint64_t bytes = left / MIB * MIB;
    /* It costs CPU and saves bytes. A cache that is filled is kept though: bottlenecks come and go. */
    bool useless = !had && !link_was_bound(in, &plan->state) && plan->cpu_share < 0.5;
    if (plan->state.short_of_memory || useless || bytes < LEAST_DELTA) {
        return 0;
    }
    /* to change its size costs what is in it */
    if (had && previous->delta_cache <= left && bytes - bytes / 3 <= previous->delta_cache) {
        return previous->delta_cache;
    }
    return bytes;
}

static void plan_memory(const struct plan_input *in, const struct plan *previous, struct plan *plan) {
    struct plan_memory *s = &plan->state;
    bool was_short = s->short_of_memory, is_auto = in->memory_budget == 0;
    s->short_of_memory = short_of_memory(in, was_short);
    uint64_t budget = is_auto ? auto_budget(in, previous) : in->memory_budget;
    uint64_t used = plan_buffers(in, plan, budget);
    s->memory_budget = budget;

    uint64_t left = budget > used ? budget - used : 0;
    uint64_t fixed = in->delta_cache > 0 ? (uint64_t)in->delta_cache : 0;
    if (is_auto) { /* what the user asks for comes on top of what we would take */
        plan->delta_cache = fixed;
    } else {
        plan->delta_cache = least(fixed, left);
        left -= plan->delta_cache;
    }
    plan->digest_bytes = least(digest_need(in), left / DIGEST_BYTES * DIGEST_BYTES);
    if (in->delta_cache < 0) {
        plan->delta_cache = auto_delta(in, previous, plan, left - plan->digest_bytes);
    }
}

/* The CPU's reason stands where there is one. */
static void explain_memory(const struct plan *previous, struct plan *plan) {
    if (previous == NULL || !plan_differs(previous, plan) || plan->cpu_share != previous->cpu_share) {
        return;
    }
    if (plan->state.short_of_memory && plan->delta_cache < previous->delta_cache) {
        plan->reason = "tasks of the host wait for memory";
    } else if (plan->delta_cache != previous->delta_cache || plan->digest_bytes != previous->digest_bytes) {
        plan->reason = plan->delta_cache + plan->digest_bytes > previous->delta_cache + previous->digest_bytes
                           ? "more memory is available"
                           : "less memory is available";
    } else {
        plan->reason = "the bottleneck or a parameter changed";
    }
}

void plan_make(const struct plan_input *in, const struct plan *previous, struct plan *plan) {
    struct plan next = { 0 };
    plan_cpu(in, previous, &next);
    plan_threads(in, &next);
    plan_memory(in, previous, &next);
    explain_memory(previous, &next);
    *plan = next; /* only now: `previous` may be the same object */
}

bool plan_differs(const struct plan *a, const struct plan *b) {
    return a->compress_threads != b->compress_threads || a->decompress_threads != b->decompress_threads ||
           a->cpu_share < b->cpu_share || a->cpu_share > b->cpu_share || a->delta_cache != b->delta_cache ||
           a->digest_bytes != b->digest_bytes || a->buffers != b->buffers;
}
