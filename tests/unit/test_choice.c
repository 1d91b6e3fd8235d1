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
    { CODEC_NONE, 0, 0, 1.0 },      { CODEC_LZ4, 1, 0.57, 0.51 },   { CODEC_ZSTD, -3, 0.62, 0.48 },
    { CODEC_ZSTD, -1, 0.68, 0.44 }, { CODEC_ZSTD, 1, 1.0, 0.39 },   { CODEC_ZSTD, 2, 1.25, 0.385 },
    { CODEC_ZSTD, 3, 3.5, 0.375 },  { CODEC_ZSTD, 6, 11.0, 0.363 }, { CODEC_ZSTD, 9, 22.0, 0.355 },
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

#define QUEUE 8 /* batches that wait for the link: ready ones, and what sockets take */

struct run {
    struct choice choice;
    struct compression_settings settings;
    double clock, told;   /* ns: when the CPUs are done, and when the destination has said something */
    double carried;       /* when the link is done with all there is */
    double placed[QUEUE]; /* when the last batches are in place */
    unsigned batches;
    uint64_t seed; /* of the kinds of what comes */
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

/* A batch of which the CPUs are done after `cpu` and that link and destination need so long for, behind those before.
 * Returns for how long the channels took nothing. */
static double pass_on(struct run *r, double cpu, double link, double peer) {
    double *slot = &r->placed[r->batches % QUEUE], *last = &r->placed[(r->batches + QUEUE - 1) % QUEUE];
    double done = r->clock + cpu, free = larger(done, *slot);
    r->carried = larger(free, r->carried) + link;
    *slot = larger(r->carried, *last) + peer;
    r->batches++;
    r->clock = free;
    return (free - done) * CHANNELS;
}

/* When all is in place. */
static double in_place(const struct run *r) {
    return larger(r->clock, r->placed[(r->batches + QUEUE - 1) % QUEUE]);
}

/* One batch, with what it costs; returns the rung that was used. */
static size_t one_batch(struct run *r, const struct world *w, enum page_kind kind) {
    struct pick pick;
    choice_pick(&r->choice, &r->settings, kind, false, &pick);
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
    double cpu = (RAW * cpu_ns(w, used) + extra) / w->cpus;
    double blocked = pass_on(r, cpu, (double)sent * w->link_ns, RAW * peer_ns(w, used));
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
    double begin = in_place(r);
    for (size_t n = 0; n < bytes / RAW; n++) {
        one_batch(r, w, KIND_MIXED);
    }
    return (in_place(r) - begin) / ((double)(bytes / RAW * RAW) * best_byte_ns(w));
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

/* ---- kinds of pages ---- */

/* Worlds of one host and link that differ in the content of each kind, and its part of the batches. */
struct kinds {
    struct world of[PAGE_KINDS];
    unsigned percent[PAGE_KINDS];
};

static const struct kinds usual = { { [KIND_MIXED] = { 0, 0, 1, 1.3 },
                                      [KIND_TEXT] = { 0, 0, 0.4, 1 },
                                      [KIND_WORDS] = { 0, 0, 1, 0.9 },
                                      [KIND_NOISE] = { 0, 0, 2, 3 } },
                                    { 5, 45, 25, 25 } };

static struct kinds on_host(double cpus, double link_ns) {
    struct kinds k = usual;
    for (int i = 0; i < PAGE_KINDS; i++) {
        k.of[i].cpus = cpus;
        k.of[i].link_ns = link_ns;
    }
    return k;
}

/* Of the best choice of one rung for each kind. */
static double best_of_kinds(const struct kinds *k) {
    double best = 1e9;
    for (unsigned n = 0; n < CHOICE_RUNGS * CHOICE_RUNGS * CHOICE_RUNGS * CHOICE_RUNGS; n++) {
        double link = 0, cpu = 0, peer = 0;
        for (unsigned i = 0, rest = n; i < PAGE_KINDS; i++, rest /= CHOICE_RUNGS) {
            const struct world *w = &k->of[i];
            double part = k->percent[i] / 100.0;
            link += part * ratio_of(w, rest % CHOICE_RUNGS) * w->link_ns;
            cpu += part * cpu_ns(w, rest % CHOICE_RUNGS) / w->cpus;
            peer += part * peer_ns(w, rest % CHOICE_RUNGS);
        }
        best = smaller(best, larger(larger(link, cpu), peer));
    }
    return best;
}

static enum page_kind next_kind(struct run *r, const struct kinds *k) {
    uint64_t at = random_below(&r->seed, 100);
    for (int i = 0; i < PAGE_KINDS - 1; i++) {
        if (at < k->percent[i]) {
            return (enum page_kind)i;
        }
        at -= k->percent[i];
    }
    return PAGE_KINDS - 1;
}

static double loss_of_kinds(struct run *r, const struct kinds *k, size_t bytes) {
    double begin = in_place(r);
    for (size_t n = 0; n < bytes / RAW; n++) {
        enum page_kind kind = next_kind(r, k);
        one_batch(r, &k->of[kind], kind);
    }
    return (in_place(r) - begin) / ((double)(bytes / RAW * RAW) * best_of_kinds(k));
}

static void each_kind_gets_its_own(void **state) {
    (void)state;
    static const double mbits[] = { 50, 200, 1000, 2500, 5000, 10000, 100000 }, cpus[] = { 0.5, 1, 2, 8 };
    for (size_t i = 0; i < COUNT(mbits) * COUNT(cpus); i++) {
        struct kinds k = on_host(cpus[i % COUNT(cpus)], 8000 / mbits[i / COUNT(cpus)]);
        struct run r;
        run_open(&r, &k.of[0]);
        double got = loss_of_kinds(&r, &k, 8192 * MIB);
        if (got > 1.10) {
            fail_msg("%g Mbit/s, %g CPUs: %.2f times the best", mbits[i / COUNT(cpus)], cpus[i % COUNT(cpus)], got);
        }
        choice_destroy(&r.choice);
    }
}

/* 1 Gbit/s and a CPU and a half: text and words with what pays for them, noise raw. By the time that one batch takes by
 * itself text would get LZ4. */
static void noise_goes_raw_and_text_does_not(void **state) {
    (void)state;
    struct kinds k = on_host(1.5, 8);
    struct run r;
    unsigned raw[PAGE_KINDS] = { 0 }, all[PAGE_KINDS] = { 0 };
    run_open(&r, &k.of[0]);
    loss_of_kinds(&r, &k, 1024 * MIB);
    for (unsigned n = 0; n < 2000; n++) {
        enum page_kind kind = next_kind(&r, &k);
        raw[kind] += rungs[one_batch(&r, &k.of[kind], kind)].codec != CODEC_ZSTD;
        all[kind]++;
    }
    assert_true(raw[KIND_NOISE] > all[KIND_NOISE] * 98 / 100);
    assert_true(raw[KIND_TEXT] < all[KIND_TEXT] / 50 && raw[KIND_WORDS] < all[KIND_WORDS] / 50);
    assert_true(choice_apart(&r.choice, &r.settings));
    choice_destroy(&r.choice);
}

/* Pages made to look like text that do not shrink, and such that look like noise and do: what counts is what came of
 * their batches. */
static void a_look_that_is_wrong_costs_nothing(void **state) {
    (void)state;
    struct kinds k = on_host(1, 8);
    k.of[KIND_TEXT].content = 3;
    k.of[KIND_NOISE].content = 1;
    struct run r;
    unsigned compressed = 0, all = 0;
    run_open(&r, &k.of[0]);
    double got = loss_of_kinds(&r, &k, 2048 * MIB);
    assert_true(got < 1.05);
    for (unsigned n = 0; n < 2000; n++) {
        enum page_kind kind = next_kind(&r, &k);
        size_t used = one_batch(&r, &k.of[kind], kind);
        compressed += kind == KIND_TEXT && used > 0;
        all += kind == KIND_TEXT;
    }
    assert_true(compressed < all / 50);
    choice_destroy(&r.choice);
}

/* What is bypassed tells as much as what did not shrink; and a kind that goes raw is tried again, whatever it looks
 * like. */
static void what_is_bypassed_is_tried_again(void **state) {
    (void)state;
    const struct world w = { 1, 8, 1, 1 };
    struct run r;
    struct pick pick;
    run_open(&r, &w);
    loss(&r, &w, 256 * MIB); /* a link that is worth a codec */
    unsigned used = 0, trials = 0;
    for (unsigned n = 0; n < 1000; n++) {
        choice_pick(&r.choice, &r.settings, KIND_NOISE, false, &pick);
        used += pick.index > 0;
        trials += pick.retrial;
        if (pick.retrial) {
            choice_compared(&r.choice, &pick, RAW, RAW, RAW, 300000);
        } else {
            choice_bypassed(&r.choice, &pick);
        }
    }
    assert_true(used < 20);
    assert_true(trials >= 3 && trials < 60);
    choice_destroy(&r.choice);
}

/* Where nothing is compressed nothing is gained by telling kinds apart. */
static void apart_while_it_pays(void **state) {
    (void)state;
    struct kinds fast = on_host(2, 0.05), slow = on_host(2, 8);
    struct run r;
    run_open(&r, &fast.of[0]);
    assert_true(choice_apart(&r.choice, &r.settings));
    loss_of_kinds(&r, &fast, 256 * MIB);
    assert_false(choice_apart(&r.choice, &r.settings));
    loss_of_kinds(&r, &slow, 256 * MIB);
    assert_true(choice_apart(&r.choice, &r.settings));
    atomic_store(&r.settings.codec, CODEC_NONE);
    assert_false(choice_apart(&r.choice, &r.settings));
    atomic_store(&r.settings.codec, CODEC_ZSTD);
    assert_true(choice_apart(&r.choice, &r.settings));
    choice_destroy(&r.choice);
}

/* Of what lies together nothing is learned but how long it took; and it is not tried. Where no kind gets a codec there
 * is a look now and then, so that what is sent does not stay unknown. */
static void what_lies_together_teaches_nothing(void **state) {
    (void)state;
    struct kinds fast = on_host(2, 0.05);
    struct run r;
    struct pick pick;
    unsigned looks = 0;
    run_open(&r, &fast.of[0]);
    loss_of_kinds(&r, &fast, 256 * MIB);
    struct choice_kind before = r.choice.kind[KIND_MIXED];
    for (unsigned n = 0; n < 1000; n++) {
        looks += choice_apart(&r.choice, &r.settings);
        choice_pick(&r.choice, &r.settings, KIND_MIXED, true, &pick);
        assert_int_equal(pick.rival_index, -1);
        pick.index = 3; /* as if the link had become slower meanwhile */
        choice_encoded(&r.choice, &pick, RAW, RAW / 9, (struct span){ RAW, RAW });
        choice_bypassed(&r.choice, &pick);
    }
    before.owed = r.choice.kind[KIND_MIXED].owed;
    assert_memory_equal(&before, &r.choice.kind[KIND_MIXED], sizeof(before));
    assert_true(looks > 10 && looks < 100);
    choice_destroy(&r.choice);
}

/* Nothing that there is shrinks, on a link that is worth a codec. Kinds that never come promise something by first
 * guess for ever: that is no reason to look for them in each gathering. */
static void what_is_not_there_promises_nothing(void **state) {
    (void)state;
    struct kinds k = on_host(2, 1.6);
    const unsigned percent[PAGE_KINDS] = { [KIND_MIXED] = 40, [KIND_NOISE] = 60 };
    memcpy(k.percent, percent, sizeof(percent));
    k.of[KIND_MIXED].content = 3;
    struct run r;
    run_open(&r, &k.of[0]);
    loss_of_kinds(&r, &k, 512 * MIB);
    unsigned apart = 0;
    for (unsigned n = 0; n < 4096; n++) {
        if (choice_apart(&r.choice, &r.settings)) {
            enum page_kind kind = next_kind(&r, &k);
            one_batch(&r, &k.of[kind], kind);
            apart++;
        }
    }
    assert_true(apart > 0 && apart < 4096 / 16);
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
        choice_pick(&r.choice, &r.settings, KIND_MIXED, false, &pick);
        assert_int_equal(pick.use.codec, CODEC_ZSTD);
        assert_int_equal(pick.use.level, 7);
        assert_int_equal(pick.rival_index, -1);
    }
    atomic_store(&r.settings.codec, CODEC_NONE);
    choice_pick(&r.choice, &r.settings, KIND_MIXED, false, &pick);
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

/* A batch that was compressed with rung `i`, at so many ns a byte. */
static void compressed_with(struct run *r, int i, double ns, double ratio) {
    const struct pick pick = { .kind = KIND_TEXT, .use = *choice_rung(i), .index = i, .rival_index = -1 };
    int64_t cpu = (int64_t)(ns * RAW);
    choice_encoded(&r->choice, &pick, RAW, (size_t)(ratio * RAW), (struct span){ cpu, cpu });
}

/* LZ4 may be eight times slower on a content than it was thought to be, and zstd hardly slower at all: what is next to
 * zstd is tried all the same. */
static void a_rung_is_guessed_from_its_neighbour(void **state) {
    (void)state;
    const struct world w = { 2, 80, 1, 1 };
    struct run r;
    struct pick pick;
    run_open(&r, &w);
    loss(&r, &w, 64 * MIB); /* it knows the link */
    for (int i = 0; i < 50; i++) {
        compressed_with(&r, 5, 3.5, 0.38);
        compressed_with(&r, 1, 5, 0.53);
    }
    bool tried = false;
    for (int i = 0; i < 200; i++) {
        choice_pick(&r.choice, &r.settings, KIND_TEXT, false, &pick);
        tried |= pick.rival_index == 6;
    }
    assert_true(tried);
    choice_destroy(&r.choice);
}

/* Writes end in bursts: one, a while later seven. No window is made of the one alone. */
static void few_writes_tell_little(void **state) {
    (void)state;
    const struct world w = { 2, 80, 1, 1 };
    struct run r;
    run_open(&r, &w);
    size_t bytes = 187500; /* eight in 120 ms: 100 Mbit/s */
    int64_t clock = 0;
    for (int i = 0; i < 400; i++) {
        int64_t took = i % 8 == 0 ? 61 * CLOCK_MS : i % 8 == 1 ? 59 * CLOCK_MS : 0;
        clock += took;
        choice_written(&r.choice, RAW, bytes, 50000, took * CHANNELS, clock);
        double rate = choice_link_rate(&r.choice);
        assert_true(i < 16 || (rate > 0.8 * 12.5e6 && rate < 1.25 * 12.5e6));
    }
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
        cmocka_unit_test(each_kind_gets_its_own),
        cmocka_unit_test(noise_goes_raw_and_text_does_not),
        cmocka_unit_test(a_look_that_is_wrong_costs_nothing),
        cmocka_unit_test(what_is_bypassed_is_tried_again),
        cmocka_unit_test(apart_while_it_pays),
        cmocka_unit_test(what_lies_together_teaches_nothing),
        cmocka_unit_test(what_is_not_there_promises_nothing),
        cmocka_unit_test(a_rung_is_guessed_from_its_neighbour),
        cmocka_unit_test(few_writes_tell_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
