/* SPDX-License-Identifier: Apache-2.0 */
/* The chooser in an invented world: a host, a link and a content whose every figure is known, on a virtual clock. */
#include "base/clock.h"
#include "ram/choice.h"
#include "support.h"

#define RAW ((size_t)512 << 10)
#define CHANNELS 2

/* What one rung does here. Filled from the ladder's order: stronger is slower. */
struct world {
    double cpus;
    double link_ns;   /* for a byte on the wire */
    double speed;     /* of this host's CPU: 1 is that of the table below */
    double content;   /* 1: as in the table; larger: shrinks less */
    double threads;   /* that compress; 0: one for each CPU */
    double peer_cpus; /* of the destination; 0: plenty */
};

static const struct {
    enum codec_id codec;
    int level;
    double ns, ratio;
} rungs[] = {
    { CODEC_NONE, 0, 0, 1.0 },      { CODEC_LZ4, 1, 0.57, 0.51 },  { CODEC_ZSTD, -3, 0.62, 0.48 },
    { CODEC_ZSTD, -1, 0.68, 0.44 }, { CODEC_ZSTD, 1, 1.0, 0.39 },  { CODEC_ZSTD, 3, 3.5, 0.375 },
    { CODEC_ZSTD, 5, 9.0, 0.365 },  { CODEC_ZSTD, 7, 14.0, 0.36 }, { CODEC_ZSTD, 9, 22.0, 0.355 },
    { CODEC_ZSTD, 12, 70.0, 0.35 },
};

static double larger(double a, double b) {
    return a > b ? a : b;
}

static double smaller(double a, double b) {
    return a < b ? a : b;
}

#define GATHER_NS 0.25
#define WRITE_NS 0.35

static size_t find(struct rung r) {
    for (size_t i = 0; i < COUNT(rungs); i++) {
        if (rungs[i].codec == r.codec && (rungs[i].level == r.level || r.codec == CODEC_LZ4)) {
            return i;
        }
    }
    fail_msg("a rung that this world does not know: codec %d, level %d", (int)r.codec, r.level);
    return 0;
}

static double ratio_of(const struct world *w, size_t rung) {
    double r = rung == 0 ? 1 : rungs[rung].ratio * w->content;
    return r < 1 ? r : 1;
}

static double cpu_ns(const struct world *w, size_t rung) {
    return GATHER_NS + rungs[rung].ns / w->speed + ratio_of(w, rung) * WRITE_NS;
}

static double decode_ns(enum codec_id codec) {
    return codec == CODEC_LZ4 ? 0.33 : codec == CODEC_ZSTD ? 0.9 : 0;
}

static double peer_ns(const struct world *w, size_t rung) {
    double ns = 0.45 + decode_ns(rungs[rung].codec) + 0.25 * ratio_of(w, rung);
    return ns / (w->peer_cpus > 0 ? w->peer_cpus : 64);
}

/* Until a byte of guest memory is in place when that rung is used all the time. */
static double byte_ns(const struct world *w, size_t rung) {
    return larger(larger(ratio_of(w, rung) * w->link_ns, cpu_ns(w, rung) / w->cpus), peer_ns(w, rung));
}

static double best_byte_ns(const struct world *w) {
    double best = byte_ns(w, 0);
    for (size_t i = 1; i < COUNT(rungs); i++) {
        best = smaller(best, byte_ns(w, i));
    }
    return best;
}

struct run {
    struct choice choice;
    struct compression_settings settings;
    double clock, told; /* ns: now, and when the destination has said something */
};

static void run_open(struct run *r, const struct world *w) {
    *r = (struct run){ .settings = { .codec = COMPRESSION_AUTO, .level = { 0, 1, 1, 1 } } };
    choice_init(&r->choice, CHANNELS, w->cpus);
    choice_resume(&r->choice, 0);
}

/* Where fewer CPUs are to be had than there are threads, work takes longer by the clock. */
static struct span span_of(const struct world *w, double cpu) {
    double threads = w->threads > 0 ? w->threads : w->cpus;
    return (struct span){ (int64_t)cpu, (int64_t)(cpu * larger(1, threads / w->cpus)) };
}

/* One batch, with what it costs; returns the rung that was used. */
static size_t one_batch(struct run *r, const struct world *w) {
    struct pick pick;
    choice_pick(&r->choice, &r->settings, &pick);
    size_t used = find(pick.use);
    size_t out = (size_t)(RAW * ratio_of(w, used)), sent = out;
    double extra = 0;
    choice_gathered(&r->choice, RAW, span_of(w, RAW * GATHER_NS));
    if (used > 0) {
        choice_encoded(&r->choice, &pick, RAW, out, span_of(w, RAW * rungs[used].ns / w->speed));
    }
    if (pick.rival_index >= 0) {
        size_t rival = find(pick.rival), rival_out = (size_t)(RAW * ratio_of(w, rival));
        extra = RAW * rungs[rival].ns / w->speed;
        if (choice_compared(&r->choice, &pick, RAW, out, rival_out, (int64_t)extra)) {
            sent = rival_out;
        }
    }
    double cpu = (RAW * cpu_ns(w, used) + extra) / w->cpus, link = (double)sent * w->link_ns;
    double peer = RAW * peer_ns(w, used), most = larger(link, peer);
    r->clock += larger(cpu, most);
    double blocked = most > cpu ? (most - cpu) * CHANNELS : 0;
    if (r->clock > r->told + 250e6) { /* as the destination does */
        const struct peer_load load = {
            0.25, 0.45, { 0, decode_ns(CODEC_LZ4), decode_ns(CODEC_ZSTD) }, w->peer_cpus > 0 ? w->peer_cpus : 64
        };
        choice_set_peer(&r->choice, &load);
        r->told = r->clock;
    }
    choice_written(&r->choice, RAW, sent, (int64_t)((double)sent * WRITE_NS), (int64_t)blocked, (int64_t)r->clock);
    return used;
}

/* Moves `bytes` and returns the time against that of the best single rung. */
static double loss(struct run *r, const struct world *w, size_t bytes) {
    double begin = r->clock;
    for (size_t n = 0; n < bytes / RAW; n++) {
        one_batch(r, w);
    }
    return (r->clock - begin) / ((double)(bytes / RAW * RAW) * best_byte_ns(w));
}

#define MIB ((size_t)1 << 20)

/* Fails when moving that much took more than `most` times what the best rung would have taken. */
static void assert_loss(struct run *r, const struct world *w, size_t bytes, double most) {
    double got = loss(r, w, bytes);
    if (got > most) {
        fail_msg(
            "%.2f ns a byte on the wire, %.1f CPUs of speed %.1f, content %.1f, %.1f CPUs there: %.2f times the best",
            w->link_ns, w->cpus, w->speed, w->content, w->peer_cpus, got);
    }
}

/* 50 Mbit/s to unshaped; a slow, a usual and a fast host; few and many CPUs. */
static void auto_is_as_good_as_the_best(void **state) {
    (void)state;
    static const double mbits[] = { 50, 200, 1000, 5000, 10000, 100000 };
    static const double cpus[] = { 0.5, 1, 2, 8 }, speeds[] = { 0.5, 1, 2 }, contents[] = { 0.5, 1, 1.8 };
    for (size_t m = 0; m < COUNT(mbits); m++) {
        for (size_t i = 0; i < COUNT(cpus) * COUNT(speeds) * COUNT(contents); i++) {
            const struct world w = { cpus[i % 4], 8000 / mbits[m], speeds[i / 4 % 3], contents[i / 12] };
            struct run r;
            run_open(&r, &w);
            assert_loss(&r, &w, 8192 * MIB, 1.10);
            choice_destroy(&r.choice);
        }
    }
}

static void it_follows_a_link_that_changes(void **state) {
    (void)state;
    const struct world fast = { 2, 8, 1, 1 }, slow = { 2, 80, 1, 1 }, unshaped = { 2, 0.05, 1, 1 };
    struct run r;
    run_open(&r, &fast);
    loss(&r, &fast, 256 * MIB);
    assert_loss(&r, &slow, 256 * MIB, 1.15);
    assert_loss(&r, &fast, 512 * MIB, 1.15);
    loss(&r, &unshaped, 256 * MIB); /* it has to find out first: nothing waits for this link */
    assert_loss(&r, &unshaped, 512 * MIB, 1.10);
    assert_loss(&r, &slow, 256 * MIB, 1.15);
    choice_destroy(&r.choice);
}

static void a_destination_that_is_short_of_cpu_is_no_slow_link(void **state) {
    (void)state;
    static const double peers[] = { 0.3, 0.7, 1, 2 }, mbits[] = { 1000, 5000, 100000 };
    for (size_t i = 0; i < COUNT(peers) * COUNT(mbits); i++) {
        const struct world w = { 1, 8000 / mbits[i % 3], 1, 1, 0, peers[i / 3] };
        struct run r;
        run_open(&r, &w);
        assert_loss(&r, &w, 8192 * MIB, 1.10);
        choice_destroy(&r.choice);
    }
}

static void it_follows_a_host_that_loses_a_cpu(void **state) {
    (void)state;
    const struct world idle = { 2, 16, 1, 1, 2, 0 }, busy = { 0.3, 16, 1, 1, 2, 0 };
    struct run r;
    run_open(&r, &idle);
    loss(&r, &idle, 512 * MIB);

    assert_loss(&r, &busy, 512 * MIB, 1.15);
    assert_loss(&r, &idle, 512 * MIB, 1.15);
    choice_destroy(&r.choice);
}

static void what_does_not_shrink_costs_hardly_more_than_raw(void **state) {
    (void)state;
    const struct world noise = { 1, 8, 1, 3 }, text = { 1, 8, 1, 1 };
    struct run r;
    run_open(&r, &noise);
    assert_loss(&r, &noise, 1024 * MIB, 1.03);
    /* and when it begins to shrink, that is found out */
    loss(&r, &text, 256 * MIB);
    assert_loss(&r, &text, 512 * MIB, 1.10);
    choice_destroy(&r.choice);
}

static void what_is_set_is_done(void **state) {
    (void)state;
    const struct world w = { 1, 8, 1, 1 };
    struct run r;
    struct pick pick;
    run_open(&r, &w);
    atomic_store(&r.settings.codec, CODEC_ZSTD);
    atomic_store(&r.settings.level[CODEC_ZSTD], 7);
    for (int i = 0; i < 300; i++) {
        choice_pick(&r.choice, &r.settings, &pick);
        assert_int_equal(pick.use.codec, CODEC_ZSTD);
        assert_int_equal(pick.use.level, 7);
        assert_int_equal(pick.rival_index, -1);
    }
    atomic_store(&r.settings.codec, CODEC_NONE);
    choice_pick(&r.choice, &r.settings, &pick);
    assert_int_equal(pick.use.codec, CODEC_NONE);
    choice_destroy(&r.choice);
}

/* The channels wait for nothing for a while because there is nothing to send: that says nothing of the link. */
static void a_pause_is_no_fast_link(void **state) {
    (void)state;
    const struct world w = { 2, 80, 1, 1 };
    struct run r;
    run_open(&r, &w);
    loss(&r, &w, 256 * MIB);
    double before = choice_link_rate(&r.choice);
    for (int i = 0; i < 100; i++) {
        r.clock += 200e6;
        choice_resume(&r.choice, (int64_t)r.clock);
        choice_written(&r.choice, 4096, 4096, 1000, 0, (int64_t)r.clock + 100000);
    }
    assert_true(choice_link_rate(&r.choice) < 1.05 * before);
    choice_destroy(&r.choice);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_is_as_good_as_the_best),
        cmocka_unit_test(it_follows_a_link_that_changes),
        cmocka_unit_test(a_destination_that_is_short_of_cpu_is_no_slow_link),
        cmocka_unit_test(it_follows_a_host_that_loses_a_cpu),
        cmocka_unit_test(what_does_not_shrink_costs_hardly_more_than_raw),
        cmocka_unit_test(what_is_set_is_done),
        cmocka_unit_test(a_pause_is_no_fast_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
