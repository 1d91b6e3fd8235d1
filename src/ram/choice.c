/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/choice.h"

#include "base/cleanup.h"

static const struct rung ladder[CHOICE_RUNGS] = {
    { CODEC_NONE, 0 }, { CODEC_LZ4, 1 },  { CODEC_ZSTD, -3 }, { CODEC_ZSTD, -1 }, { CODEC_ZSTD, 1 },
    { CODEC_ZSTD, 3 }, { CODEC_ZSTD, 5 }, { CODEC_ZSTD, 7 },  { CODEC_ZSTD, 9 },  { CODEC_ZSTD, 12 },
};

/* First guesses, from guest memory on one core of a Xeon at 2.8 GHz; only their order has to be right. */
static const struct rung_cost first_guess[CHOICE_RUNGS] = {
    { .encode_ns = 0.0, .shape = 1.0, .measured = true },
    { .encode_ns = 0.6, .shape = 0.52 },
    { .encode_ns = 0.7, .shape = 0.47 },
    { .encode_ns = 0.8, .shape = 0.45 },
    { .encode_ns = 1.2, .shape = 0.40 },
    { .encode_ns = 3.0, .shape = 0.38 },
    { .encode_ns = 8.0, .shape = 0.37 },
    { .encode_ns = 15.0, .shape = 0.36 },
    { .encode_ns = 25.0, .shape = 0.355 },
    { .encode_ns = 60.0, .shape = 0.35 },
};

#define FIRST_LINK_NS 0.2 /* 40 Gbit/s: that a link is slower shows at once, that it is faster takes time */
#define FIRST_GATHER_NS 0.3
#define FIRST_WRITE_NS 0.3

#define FIRST_DEVICE_NS 0.2
#define FIRST_DEVICE_SHAPE 0.42

/* A destination that has said nothing yet. */
static const struct peer_load first_peer = {
    .read_ns = 0.2,
    .place_ns = 0.4,
    .decode_ns = { [CODEC_LZ4] = 0.4, [CODEC_ZSTD] = 1.0, [CODEC_DEFLATE] = 1.6 },
    .threads = 2,
};

#define CPU_PRICE 0.05 /* of the time that all CPUs we may use would take for it */
#define WEIGHT 0.1     /* of a new batch in the running means */

#define TRY_INTERVAL 24    /* batches between two trials of a neighbour */
#define STALE_INTERVAL 256 /* until a neighbour that is known is looked at again */

/* A window ends when it has both of these, or the third. */
#define WINDOW_NS INT64_C(15000000)
#define WINDOW_WRITES 32
#define LONG_WINDOW_NS INT64_C(60000000)
#define SATURATED 0.1 /* part of the channels' time in which they took nothing: their queues were full */
#define PEER_FULL 0.7 /* part of the time in which the destination is busy by what it says */
#define LINK_WEIGHT 0.5
#define STRETCH_WEIGHT 0.3
#define LINK_GROWTH 0.97 /* in the first window that the link does not fill; twice that in the next, and so on */
#define LINK_GROWTH_MOST 0.5
#define LEAST_LINK_NS 0.01
#define FIRST_HOLD 8 /* windows */
#define MOST_HOLD 100

static void mean(double *m, double value, double weight) {
    *m += weight * (value - *m);
}

void choice_init(struct choice *c, unsigned channels, double cpus) {
    *c = (struct choice){ .best = 4,
                          .content = 1.0,
                          .speed = 1.0,
                          .gather_ns = FIRST_GATHER_NS,
                          .write_ns = FIRST_WRITE_NS,
                          .link_ns = FIRST_LINK_NS,
                          .growth = LINK_GROWTH,
                          .device_ns = FIRST_DEVICE_NS,
                          .device_shape = FIRST_DEVICE_SHAPE,
                          .cpus = cpus,
                          .threads = cpus,
                          .stretch = 1.0,
                          .channels = channels,
                          .peer = first_peer };
    pthread_mutex_init(&c->lock, NULL);
    for (int i = 0; i < CHOICE_RUNGS; i++) {
        c->rung[i] = first_guess[i];
    }
}

void choice_destroy(struct choice *c) {
    pthread_mutex_destroy(&c->lock);
}

void choice_set_cpus(struct choice *c, double cpus, unsigned threads) {
    LOCK_GUARD(&c->lock);
    c->cpus = cpus;
    c->threads = threads;
}

static double encode_ns(const struct choice *c, int i) {
    return c->rung[i].measured ? c->rung[i].encode_ns : c->rung[i].encode_ns * c->speed;
}

static double ratio(const struct choice *c, int i) {
    double r = i == 0 ? 1.0 : c->rung[i].shape * c->content;
    return r < 1.0 ? r : 1.0;
}

static double cpu_ns(const struct choice *c, int i) {
    return c->gather_ns + encode_ns(c, i) + ratio(c, i) * c->write_ns;
}

/* CPUs that our work really gets. */
static double cpus(const struct choice *c) {
    double got = c->threads / c->stretch;
    return got < c->cpus ? got : c->cpus;
}

static double larger(double a, double b) {
    return a > b ? a : b;
}

/* At the destination. */
static double peer_ns(const struct choice *c, enum codec_id codec, double part) {
    return (c->peer.place_ns + c->peer.decode_ns[codec] + part * c->peer.read_ns) / c->peer.threads;
}

/* Until a byte of guest memory is in place, ns; with the price for CPU. */
static double cost(const struct choice *c, int i) {
    double link = ratio(c, i) * c->link_ns, cpu = cpu_ns(c, i) / cpus(c);
    return larger(larger(link, cpu), peer_ns(c, ladder[i].codec, ratio(c, i))) + CPU_PRICE * cpu;
}

/* Among the rungs that were measured. */
static int find_best(const struct choice *c) {
    int best = 0;
    for (int i = 1; i < CHOICE_RUNGS; i++) {
        if (c->rung[i].measured && cost(c, i) < cost(c, best)) {
            best = i;
        }
    }
    return best;
}

/* Whether to try a neighbour of the best rung now: one that was never measured and promises something by the first
 * guess, at once; else one whose measure is old. */
static bool worth_trying(const struct choice *c, int i) {
    if (i < 1 || i >= CHOICE_RUNGS) {
        return false;
    }
    const struct rung_cost *r = &c->rung[i];
    if (!r->measured) {
        return cost(c, i) < 1.1 * cost(c, c->best);
    }
    return c->batches - r->tried_at > STALE_INTERVAL && cost(c, i) < 1.2 * cost(c, c->best);
}

static int find_rival(const struct choice *c) {
    if (c->batches % TRY_INTERVAL != 0 && c->rung[c->best].measured && c->batches > 16) {
        return -1;
    }
    static const int steps[] = { 1, -1, 2, -2 };
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (worth_trying(c, c->best + steps[i])) {
            return c->best + steps[i];
        }
    }
    return -1;
}

static double device_ratio(const struct choice *c) {
    double r = c->device_shape * c->content;
    return r < 1.0 ? r : 1.0;
}

/* As cost(), of an accelerator: the CPU only reads and writes. */
static double device_cost(const struct choice *c) {
    double cpu_ns = c->gather_ns + device_ratio(c) * c->write_ns;
    double link = device_ratio(c) * c->link_ns, cpu = cpu_ns / cpus(c);
    double most = larger(larger(link, cpu), peer_ns(c, CODEC_DEFLATE, device_ratio(c)));
    return larger(most, c->device_ns) + CPU_PRICE * cpu;
}

static enum codec_id fixed_codec(int set) {
    return set == COMPRESSION_ACCEL ? CODEC_DEFLATE : (enum codec_id)set;
}

void choice_pick(struct choice *c, const struct compression_settings *s, struct pick *pick) {
    int set = atomic_load_explicit(&s->codec, memory_order_relaxed);
    *pick = (struct pick){ .index = -1, .rival_index = -1 };
    if (set != COMPRESSION_AUTO) {
        pick->device = set == COMPRESSION_ACCEL;
        pick->use.codec = fixed_codec(set);
        pick->use.level = atomic_load_explicit(&s->level[pick->use.codec], memory_order_relaxed);
        return;
    }
    LOCK_GUARD(&c->lock);
    c->batches++;
    pick->index = c->best;
    pick->use = ladder[c->best];
    pick->device = c->devices && device_cost(c) <= cost(c, c->best);
    pick->rival_index = pick->device ? -1 : find_rival(c);
    if (pick->rival_index >= 0) {
        pick->rival = ladder[pick->rival_index];
        c->rung[pick->rival_index].tried_at = c->batches;
    }
    if (pick->use.codec == CODEC_LZ4) {
        pick->use.level = atomic_load_explicit(&s->level[CODEC_LZ4], memory_order_relaxed);
    }
}

static void note_span(struct choice *c, struct span span) {
    c->window.cpu += span.cpu;
    c->window.wall += span.wall;
}

void choice_gathered(struct choice *c, size_t raw, struct span span) {
    LOCK_GUARD(&c->lock);
    note_span(c, span);
    mean(&c->gather_ns, (double)span.cpu / (double)raw, WEIGHT);
}

static void learn_speed(struct choice *c, int i, double ns) {
    struct rung_cost *r = &c->rung[i];
    if (!r->measured) {
        c->speed = ns / first_guess[i].encode_ns;
        r->encode_ns = ns;
        r->measured = true;
    } else {
        mean(&r->encode_ns, ns, WEIGHT);
    }
}

void choice_encoded(struct choice *c, const struct pick *pick, size_t raw, size_t out, struct span span) {
    if (pick->index <= 0) {
        return;
    }
    LOCK_GUARD(&c->lock);
    note_span(c, span);
    learn_speed(c, pick->index, (double)span.cpu / (double)raw);
    mean(&c->content, (double)out / (double)raw / c->rung[pick->index].shape, WEIGHT);
    c->best = find_best(c);
}

bool choice_compared(struct choice *c, const struct pick *pick, size_t raw, size_t out, size_t rival_out, int64_t ns) {
    LOCK_GUARD(&c->lock);
    int rival = pick->rival_index;
    struct rung_cost *r = &c->rung[rival];
    bool first = !r->measured;
    double rival_ratio = (double)rival_out / (double)raw;
    learn_speed(c, rival, (double)ns / (double)raw);
    if (pick->index > 0) {
        double shape = c->rung[pick->index].shape * (double)rival_out / (double)out;
        mean(&r->shape, shape, first ? 1.0 : 0.3);
    } else {
        mean(&c->content, rival_ratio / r->shape, WEIGHT);
    }
    c->best = find_best(c);
    return rival_out < out && rival_out < raw;
}

static void take_rate(double *known, double said) {
    if (said > 0) {
        *known = said;
    }
}

void choice_set_peer(struct choice *c, const struct peer_load *load) {
    LOCK_GUARD(&c->lock);
    take_rate(&c->peer.read_ns, load->read_ns);
    take_rate(&c->peer.place_ns, load->place_ns);
    take_rate(&c->peer.threads, load->threads);
    for (unsigned id = 0; id < CODEC_COUNT; id++) {
        take_rate(&c->peer.decode_ns[id], load->decode_ns[id]);
    }
    c->best = find_best(c);
}

void choice_set_devices(struct choice *c, bool devices) {
    LOCK_GUARD(&c->lock);
    c->devices = devices;
}

void choice_device_done(struct choice *c, size_t raw, size_t out, int64_t submitted, int64_t now) {
    LOCK_GUARD(&c->lock);
    /* Devices that have work without a pause show their rate by the time between two ends. */
    int64_t begin = submitted > c->device_done ? submitted : c->device_done;
    c->device_done = now;
    mean(&c->device_ns, (double)(now - begin) / (double)raw, WEIGHT);
    mean(&c->device_shape, (double)out / (double)raw / c->content, WEIGHT);
}

/* The channels had to wait: this is what the link carries. */
static void learn_full(struct choice *c, double ns) {
    bool probed = ns > 1.3 * c->link_ns;
    bool nothing_new = ns > 0.8 * c->full_ns && ns < 1.25 * c->full_ns;
    if (!nothing_new) {
        c->hold = 0;
    } else if (probed) {
        c->hold = c->hold < MOST_HOLD / 2 ? 2 * c->hold + FIRST_HOLD : MOST_HOLD;
    }
    c->held = 0;
    c->growth = LINK_GROWTH;
    c->full_ns = ns;
    mean(&c->link_ns, ns, probed ? 1.0 : LINK_WEIGHT);
}

/* Nobody waited for the link: it carries that much, perhaps more. */
static void learn_free(struct choice *c, double ns) {
    c->link_ns = ns < c->link_ns ? ns : c->link_ns;
    if (c->held++ < c->hold) {
        return;
    }
    c->link_ns = c->link_ns * c->growth > LEAST_LINK_NS ? c->link_ns * c->growth : LEAST_LINK_NS;
    c->growth = c->growth * c->growth > LINK_GROWTH_MOST ? c->growth * c->growth : LINK_GROWTH_MOST;
}

/* The window is over: what it says of the link. */
static void learn_link(struct choice *c, int64_t elapsed) {
    const struct choice_window *w = &c->window;
    double ns = (double)elapsed / (double)w->bytes;
    double raw_ns = w->raw > 0 ? (double)elapsed / (double)w->raw : ns;
    bool blocked = (double)w->blocked > SATURATED * (double)elapsed * c->channels;
    /* Perhaps it is not the link that takes no more but a destination that can't place as fast. */
    bool peer_full = peer_ns(c, ladder[c->best].codec, ratio(c, c->best)) > PEER_FULL * raw_ns;
    c->full = blocked && !peer_full;
    if (w->cpu > 0) {
        double stretch = (double)w->wall / (double)w->cpu;
        mean(&c->stretch, stretch > 1 ? stretch : 1, STRETCH_WEIGHT);
    }
    if (c->full) {
        learn_full(c, ns);
    } else {
        learn_free(c, ns);
    }
    c->best = find_best(c);
}

void choice_written(struct choice *c, size_t raw, size_t bytes, int64_t cpu, int64_t blocked_ns, int64_t now) {
    LOCK_GUARD(&c->lock);
    struct choice_window *w = &c->window;
    mean(&c->write_ns, (double)cpu / (double)bytes, WEIGHT);
    w->bytes += bytes;
    w->raw += raw;
    w->blocked += blocked_ns;
    w->writes++;
    int64_t elapsed = now - w->begin;
    if (elapsed >= LONG_WINDOW_NS || (elapsed >= WINDOW_NS && w->writes >= WINDOW_WRITES)) {
        learn_link(c, elapsed);
        *w = (struct choice_window){ .begin = now };
    }
}

void choice_resume(struct choice *c, int64_t now) {
    LOCK_GUARD(&c->lock);
    c->window = (struct choice_window){ .begin = now };
}

const struct rung *choice_rung(int i) {
    return &ladder[i];
}

int choice_foresee(const struct choice *c) {
    return find_best(c);
}

double choice_work(const struct choice *c, const struct rung *r, double encode_time, double part) {
    return larger((c->gather_ns + encode_time + part * c->write_ns) / cpus(c), peer_ns(c, r->codec, part));
}

bool choice_link_bound(struct choice *c) {
    LOCK_GUARD(&c->lock);
    return c->full;
}

double choice_link_rate(struct choice *c) {
    LOCK_GUARD(&c->lock);
    return 1e9 / c->link_ns;
}
