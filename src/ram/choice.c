/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/choice_internal.h"

#include "base/cleanup.h"

#include <string.h>

static const struct rung ladder[CHOICE_RUNGS] = {
    { CODEC_NONE, 0 }, { CODEC_LZ4, 1 },  { CODEC_ZSTD, -3 }, { CODEC_ZSTD, -1 }, { CODEC_ZSTD, 1 },
    { CODEC_ZSTD, 2 }, { CODEC_ZSTD, 3 }, { CODEC_ZSTD, 6 },  { CODEC_ZSTD, 9 },  { CODEC_ZSTD, 12 },
};

/* First guesses, from guest memory on one core of a Xeon at 2.8 GHz; only their order has to be right. */
static const struct rung_cost first_guess[CHOICE_RUNGS] = {
    { .encode_ns = 0.0, .shape = 1.0, .measured = true },
    { .encode_ns = 0.6, .shape = 0.52 },
    { .encode_ns = 0.7, .shape = 0.47 },
    { .encode_ns = 0.8, .shape = 0.45 },
    { .encode_ns = 1.2, .shape = 0.40 },
    { .encode_ns = 1.5, .shape = 0.385 },
    { .encode_ns = 3.0, .shape = 0.38 },
    { .encode_ns = 11.0, .shape = 0.365 },
    { .encode_ns = 25.0, .shape = 0.355 },
    { .encode_ns = 60.0, .shape = 0.35 },
};

#define FIRST_LINK_NS 0.2 /* 40 Gbit/s: that a link is slower shows at once, that it is faster takes time */
#define FIRST_GATHER_NS 0.3
#define FIRST_WRITE_NS 0.3

#define FIRST_DEVICE_NS 0.2
#define FIRST_DEVICE_SHAPE 0.42

/* A destination that has said nothing yet: rather too fast than too slow, for it will say so in a quarter of a second.
 */
static const struct peer_load first_peer = {
    .read_ns = 0.2,
    .place_ns = 0.4,
    .decode_ns = { [CODEC_LZ4] = 0.4, [CODEC_ZSTD] = 1.0, [CODEC_DEFLATE] = 1.6 },
    .threads = 4,
};

#define CPU_PRICE 0.05 /* of the time that all CPUs we may use would take for it */
#define RARE_WEIGHT                                                                                                    \
    0.4 /* of one that tells something new: a trial of what goes raw, noise where none was thought to be */
#define PART_WEIGHT 0.03 /* in the parts that kinds have: what is sent changes from stretch to stretch of memory */
#define LEAST_PART 1e-4  /* a kind that is not seen still gets what would be best for it */
#define FIRST_RUNG 4
#define FIRST_BATCHES 16 /* of a kind, in which all that promises something is tried */

#define TRY_INTERVAL 24    /* batches between two trials of a neighbour */
#define STALE_INTERVAL 256 /* until a neighbour that is known is looked at again */
#define APART_INTERVAL 64  /* gatherings until kinds are told apart again, while no kind gets a codec, */
#define APART_LOOKS 2      /* in so many: first what lies together leaves */

static void kind_init(struct choice_kind *k) {
    *k = (struct choice_kind){ .content = 1.0, .part = 1.0 / PAGE_KINDS };
    for (int i = 0; i < CHOICE_RUNGS; i++) {
        k->rung[i] = first_guess[i];
    }
}

void choice_init(struct choice *c, unsigned channels, double cpus) {
    *c = (struct choice){ .best = { .price = CPU_PRICE },
                          .gather_ns = FIRST_GATHER_NS,
                          .write_ns = FIRST_WRITE_NS,
                          .link_ns = FIRST_LINK_NS,
                          .growth = CHOICE_LINK_GROWTH,
                          .device_ns = FIRST_DEVICE_NS,
                          .device_shape = FIRST_DEVICE_SHAPE,
                          .cpus = cpus,
                          .threads = cpus,
                          .stretch = 1.0,
                          .channels = channels,
                          .peer = first_peer };
    pthread_mutex_init(&c->lock, NULL);
    for (int k = 0; k < PAGE_KINDS; k++) {
        kind_init(&c->kind[k]);
        c->best.rung[0][k] = c->best.rung[1][k] = FIRST_RUNG;
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

/* The rung next to it that was measured, the weaker of two; 0: none was. */
static int neighbour(const struct choice_kind *k, int i) {
    for (int n = 1; n < CHOICE_RUNGS; n++) {
        if (i - n > 0 && k->rung[i - n].measured) {
            return i - n;
        }
        if (i + n < CHOICE_RUNGS && k->rung[i + n].measured) {
            return i + n;
        }
    }
    return 0;
}

/* Of one that was not measured it is thought that it is to its neighbour as the first guesses are. */
static double encode_ns(const struct choice_kind *k, int i) {
    int n = k->rung[i].measured ? i : neighbour(k, i);
    return n > 0 ? k->rung[n].encode_ns * first_guess[i].encode_ns / first_guess[n].encode_ns
                 : first_guess[i].encode_ns;
}

static double shape(const struct choice_kind *k, int i) {
    int n = k->rung[i].measured ? i : neighbour(k, i);
    return n > 0 ? k->rung[n].shape * first_guess[i].shape / first_guess[n].shape : k->rung[i].shape;
}

/* A batch that shrinks by less than a sixteenth goes raw: a mean that says so is made of such that do. */
static double at_most_raw(double ratio) {
    return ratio < 15.0 / 16 ? ratio : 1.0;
}

static double ratio(const struct choice_kind *k, int i) {
    return i == 0 ? 1.0 : at_most_raw(shape(k, i) * k->content);
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

static struct rung_time rung_time(const struct choice *c, const struct choice_kind *k, int i) {
    double r = ratio(k, i);
    return (struct rung_time){ .link = r * c->link_ns,
                               .cpu = (c->gather_ns + encode_ns(k, i) + r * c->write_ns) / cpus(c),
                               .peer = peer_ns(c, ladder[i].codec, r),
                               .known = k->rung[i].measured };
}

static void fill_table(const struct choice *c, struct settle_table *t) {
    double parts = 0;
    for (int k = 0; k < PAGE_KINDS; k++) {
        parts += c->kind[k].part;
    }
    t->cpu_price = CPU_PRICE;
    for (int k = 0; k < PAGE_KINDS; k++) {
        t->part[k] = larger(c->kind[k].part / parts, LEAST_PART);
        for (int i = 0; i < CHOICE_RUNGS; i++) {
            t->rung[k][i] = rung_time(c, &c->kind[k], i);
        }
    }
}

/* Among the rungs that were measured. */
void choice_find_best(struct choice *c) {
    struct settle_table t;
    fill_table(c, &t);
    settle_find(&t, &c->best);
}

/* Looks at a rung next to the one in use: one that was never measured and promises something by the first guess, at
 * once; else one whose measure is old. */
static int find_rival(const struct choice *c, const struct choice_kind *k, int used) {
    if (k->batches % TRY_INTERVAL != 0 && k->rung[used].measured && k->batches > FIRST_BATCHES) {
        return -1;
    }
    static const int steps[] = { 1, -1, 2, -2 };
    struct rung_time mine = rung_time(c, k, used);
    for (size_t n = 0; n < sizeof(steps) / sizeof(steps[0]); n++) {
        int i = used + steps[n];
        if (i < 1 || i >= CHOICE_RUNGS) {
            continue;
        }
        struct rung_time its = rung_time(c, k, i);
        bool old = k->batches - k->rung[i].tried_at > STALE_INTERVAL;
        double most = (its.known ? 1.2 : 1.1) * settle_cost(&mine, c->best.price);
        if ((old || !its.known) && settle_cost(&its, c->best.price) < most) {
            return i;
        }
    }
    return -1;
}

/* Whether an accelerator, where the CPU only reads and writes, has a batch of this kind in place sooner, as if there
 * were no others. */
static bool device_is_better(const struct choice *c, const struct choice_kind *k, int used) {
    double r = at_most_raw(c->device_shape * k->content);
    double cpu = (c->gather_ns + r * c->write_ns) / cpus(c);
    double most = larger(larger(r * c->link_ns, cpu), peer_ns(c, CODEC_DEFLATE, r));
    struct rung_time own = rung_time(c, k, used);
    return larger(most, c->device_ns) + CPU_PRICE * cpu <=
           larger(larger(own.link, own.cpu), own.peer) + CPU_PRICE * own.cpu;
}

static enum codec_id fixed_codec(int set) {
    return set == COMPRESSION_ACCEL ? CODEC_DEFLATE : (enum codec_id)set;
}

/* A codec that was never tried on this kind promises something. */
static bool promises(const struct choice *c, const struct choice_kind *k, int used) {
    int rival = find_rival(c, k, used);
    return rival > 0 && !k->rung[rival].measured;
}

/* That some kind gets a codec, or may. A kind that was not seen for some 260 batches does not count: nobody would ever
 * measure what it promises. */
static bool any_codec(const struct choice *c) {
    for (int n = 0; n < PAGE_KINDS; n++) {
        const struct choice_kind *k = &c->kind[n];
        const struct settled *s = &c->best;
        bool gets = s->rung[0][n] > 0 || (s->second > 0 && s->rung[1][n] > 0);
        if (k->part > LEAST_PART && (gets || promises(c, k, s->rung[0][n]))) {
            return true;
        }
    }
    return false;
}

bool choice_apart(struct choice *c, const struct compression_settings *s) {
    int set = atomic_load_explicit(&s->codec, memory_order_relaxed);
    if (set != COMPRESSION_AUTO) {
        return set != CODEC_NONE;
    }
    LOCK_GUARD(&c->lock);
    return c->devices || any_codec(c) || c->gathered++ % APART_INTERVAL >= APART_INTERVAL - APART_LOOKS;
}

/* A batch of this kind is about to be sent. */
static void note_part(struct choice *c, enum page_kind kind) {
    for (int k = 0; k < PAGE_KINDS; k++) {
        choice_mean(&c->kind[k].part, k == (int)kind ? 1.0 : 0.0, PART_WEIGHT);
    }
    c->kind[kind].batches++;
}

/* One of the two that were settled. */
static int take_rung(struct choice *c, enum page_kind kind) {
    struct choice_kind *k = &c->kind[kind];
    k->owed += c->best.second;
    if (k->owed < 1) {
        return c->best.rung[0][kind];
    }
    k->owed -= 1;
    return c->best.rung[1][kind];
}

void choice_pick(struct choice *c, const struct compression_settings *s, enum page_kind kind, bool together,
                 struct pick *pick) {
    int set = atomic_load_explicit(&s->codec, memory_order_relaxed);
    *pick = (struct pick){ .kind = kind, .together = together, .index = -1, .rival_index = -1 };
    if (set != COMPRESSION_AUTO) {
        pick->device = set == COMPRESSION_ACCEL;
        pick->use.codec = fixed_codec(set);
        pick->use.level = atomic_load_explicit(&s->level[pick->use.codec], memory_order_relaxed);
        return;
    }
    LOCK_GUARD(&c->lock);
    struct choice_kind *k = &c->kind[kind];
    if (!together) {
        note_part(c, kind);
    }
    pick->index = take_rung(c, kind);
    pick->use = ladder[pick->index];
    pick->device = c->devices && device_is_better(c, k, pick->index);
    pick->rival_index = pick->device || together ? -1 : find_rival(c, k, pick->index);
    if (pick->rival_index >= 0) {
        pick->rival = ladder[pick->rival_index];
        pick->retrial = pick->index == 0;
        k->rung[pick->rival_index].tried_at = k->batches;
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
    choice_mean(&c->gather_ns, (double)span.cpu / (double)raw, CHOICE_WEIGHT);
}

/* A batch became `ratio` of what it was with a rung. One that did not shrink says that the content shrinks at most so
 * much, and perhaps less. */
static void learn_content(struct choice_kind *k, int i, double ratio, double weight) {
    double content = ratio / k->rung[i].shape;
    if (ratio < 1 || content > k->content) {
        choice_mean(&k->content, content, weight);
    }
}

void choice_bypassed(struct choice *c, const struct pick *pick) {
    if (pick->index <= 0 || pick->together) {
        return;
    }
    LOCK_GUARD(&c->lock);
    struct choice_kind *k = &c->kind[pick->kind];
    learn_content(k, pick->index, 1, RARE_WEIGHT);
    choice_find_best(c);
}

static void learn_speed(struct choice_kind *k, int i, double ns) {
    struct rung_cost *r = &k->rung[i];
    if (!r->measured) {
        r->encode_ns = ns;
        r->shape = shape(k, i);
        r->measured = true;
    } else {
        choice_mean(&r->encode_ns, ns, CHOICE_WEIGHT);
    }
}

void choice_encoded(struct choice *c, const struct pick *pick, size_t raw, size_t out, struct span span) {
    if (pick->index <= 0) {
        return;
    }
    LOCK_GUARD(&c->lock);
    struct choice_kind *k = &c->kind[pick->kind];
    note_span(c, span);
    if (pick->together) {
        return;
    }
    learn_speed(k, pick->index, (double)span.cpu / (double)raw);
    learn_content(k, pick->index, (double)out / (double)raw, CHOICE_WEIGHT);
    choice_find_best(c);
}

bool choice_compared(struct choice *c, const struct pick *pick, size_t raw, size_t out, size_t rival_out, int64_t ns) {
    LOCK_GUARD(&c->lock);
    struct choice_kind *k = &c->kind[pick->kind];
    int rival = pick->rival_index;
    struct rung_cost *r = &k->rung[rival];
    bool first = !r->measured;
    learn_speed(k, rival, (double)ns / (double)raw);
    if (pick->index > 0) {
        double its = k->rung[pick->index].shape * (double)rival_out / (double)out;
        choice_mean(&r->shape, its, first ? 1.0 : 0.3);
    } else {
        learn_content(k, rival, (double)rival_out / (double)raw, RARE_WEIGHT);
    }
    choice_find_best(c);
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
    choice_find_best(c);
}

void choice_set_devices(struct choice *c, bool devices) {
    LOCK_GUARD(&c->lock);
    c->devices = devices;
}

void choice_device_done(struct choice *c, enum page_kind kind, size_t raw, size_t out, int64_t submitted, int64_t now) {
    LOCK_GUARD(&c->lock);
    /* Devices that have work without a pause show their rate by the time between two ends. */
    int64_t begin = submitted > c->device_done ? submitted : c->device_done;
    c->device_done = now;
    choice_mean(&c->device_ns, (double)(now - begin) / (double)raw, CHOICE_WEIGHT);
    choice_mean(&c->device_shape, (double)out / (double)raw / c->kind[kind].content, CHOICE_WEIGHT);
}

/* What the destination needs for a byte, of all kinds as they are sent now. */
double choice_peer_time(const struct choice *c) {
    double ns = 0, parts = 0;
    for (int n = 0; n < PAGE_KINDS; n++) {
        const struct choice_kind *k = &c->kind[n];
        double first = rung_time(c, k, c->best.rung[0][n]).peer, second = rung_time(c, k, c->best.rung[1][n]).peer;
        ns += k->part * (first + c->best.second * (second - first));
        parts += k->part;
    }
    return ns / parts;
}

const struct rung *choice_rung(int i) {
    return &ladder[i];
}

int choice_foresee(struct choice *c, const struct rung_cost rungs[CHOICE_RUNGS]) {
    for (int k = 0; k < PAGE_KINDS; k++) {
        memcpy(c->kind[k].rung, rungs, sizeof(c->kind[k].rung));
    }
    choice_find_best(c);
    return c->best.rung[c->best.second > 0.5][0];
}

double choice_work(const struct choice *c, const struct rung *r, double encode_time, double part) {
    return larger((c->gather_ns + encode_time + part * c->write_ns) / cpus(c), peer_ns(c, r->codec, part));
}
