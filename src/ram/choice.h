/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which codec the next batch gets (seeds.md D3), one chooser for all channels of a migration.
 *
 * compression=auto picks what has the batch in place soonest. Two things can be the narrow one: the link, or the CPU
 * that the engine may use. For a byte of guest memory and a choice c:
 *
 *   time(c) = max( ratio(c) * link,
 *                  (gather + encode(c) + ratio(c) * write) / cpus,
 *                  (place + decode(c) + ratio(c) * read) / threads of the destination )
 *
 * and all batches share the three, so what counts is the sums over the kinds of pages (ram/kind.h) that are sent: each
 * kind has ratios and speeds of its own, and gets a rung of its own (ram/settle.h). Noise that goes raw leaves the CPUs
 * to what shrinks. All is measured while running, on either side. `cpus` is what the plan allows (policy/plan.h), and
 * no more than what the threads really get: how much longer their work takes by the clock than in CPU time tells. The
 * choices form a ladder from "none" to slow and strong. Next to the rung in use its neighbours are tried now and then:
 * the same batch is compressed both ways, so that what is compared is the codecs and not the batches. On top of the
 * time comes a small price for CPU, so that a core is not spent on a per mille.
 *
 * The link's rate shows only when the link is what is waited for, and not a destination that is short of CPU. While it
 * is not, the estimate grows, slowly and then faster: a link that has become faster is found out. A guess that proves
 * wrong costs a few batches, and the next one is made twice as late.
 */
#ifndef GODWIT_RAM_CHOICE_H
#define GODWIT_RAM_CHOICE_H

#include "codec/codec.h"
#include "ram/costs.h"
#include "ram/kind.h"
#include "ram/settle.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COMPRESSION_AUTO (-1)
#define COMPRESSION_ACCEL (-2) /* an accelerator, while there is one; then deflate */

/* What the user set; may change while running. */
struct compression_settings {
    _Atomic int codec; /* COMPRESSION_* or a codec_id */
    _Atomic int level[CODEC_COUNT];
    _Atomic bool bypass;         /* batches that look incompressible are not tried */
    _Atomic bool zero_detection; /* pages full of zeros go as a word */
};

struct rung {
    enum codec_id codec;
    int level;
};

struct rung_cost {
    double encode_ns; /* CPU time for a byte of guest memory */
    double shape;     /* bytes out per byte in, as a part of what `content` says */
    bool measured;
    uint64_t tried_at; /* batch of the kind */
};

/* What is known of the batches of one kind. */
struct choice_kind {
    struct rung_cost rung[CHOICE_RUNGS];
    double owed; /* batches with the second of the two rungs that were settled for it */
    uint64_t batches;
    double content; /* how much what was seen lately shrinks, against what `shape` was made on */
    double part;    /* of the bytes that are sent */
};

struct choice {
    pthread_mutex_t lock; /* owns all that follows */
    struct choice_kind kind[PAGE_KINDS];
    struct settled best;
    unsigned gathered;          /* times in which no kind got a codec */
    double gather_ns, write_ns; /* CPU time for a byte of guest memory, of the wire */
    double link_ns;             /* time for a byte on the wire, all channels together */
    double growth;              /* of the link's rate: the factor for link_ns when nobody waits for it */
    bool full;                  /* the last window was one in which the channels had to wait */
    double full_ns;             /* link_ns when the link was full last */
    unsigned hold, held;        /* windows to wait before it is thought to be faster again, and since when */
    double cpus;                /* what the plan allows */
    double threads;             /* that gather and compress at the same time */
    double stretch;             /* their time by the clock, against their CPU time */
    unsigned channels;
    struct peer_load peer;

    /* What accelerators do, while there are any. */
    bool devices;
    double device_ns;    /* time for a byte of guest memory, all of them together */
    double device_shape; /* as that of a rung */
    int64_t device_done; /* clock_now() of the last job's end */

    struct choice_window {
        int64_t begin; /* clock_now() */
        uint64_t bytes, raw;
        unsigned writes;
        int64_t blocked;   /* ns, summed over the channels */
        int64_t cpu, wall; /* ns of gathering and compressing */
    } window;
};

/* How long something took. */
struct span {
    int64_t cpu, wall; /* ns */
};

/* What to do with one batch. */
struct pick {
    enum page_kind kind;
    bool together; /* its pages are of any kind: what a codec makes of it says nothing of one */
    bool device;   /* an accelerator, if it has room; what follows is for when it has not */
    struct rung use;
    int index;         /* on the ladder, -1: the user's own */
    struct rung rival; /* compress with this one too, and say so with choice_compared() */
    int rival_index;   /* -1: none */
    bool retrial;      /* the kind goes raw, and is tried again: whatever it looks like */
};

void choice_init(struct choice *c, unsigned channels, double cpus);
void choice_destroy(struct choice *c);
/* What the engine may use of the host's CPUs now, and with how many threads. */
void choice_set_cpus(struct choice *c, double cpus, unsigned threads);

/* What receiving costs the destination. What it does not say (0) stays as it was. */
void choice_set_peer(struct choice *c, const struct peer_load *load);

/* `together`: the batch has pages that were not told apart. */
void choice_pick(struct choice *c, const struct compression_settings *s, enum page_kind kind, bool together,
                 struct pick *pick);
/* Whether pages of a kind are to lie together. Where none gets a codec, and none that was never tried promises
 * anything, it would only cost copies, but for a look now and then at what there is. */
bool choice_apart(struct choice *c, const struct compression_settings *s);
/* Guest memory was read and sorted: bytes of it that are to be sent in full. */
void choice_gathered(struct choice *c, size_t raw, struct span span);
/* A batch is sent raw because it looks like noise. */
void choice_bypassed(struct choice *c, const struct pick *pick);
/* A batch was compressed (`out` is `raw` when it did not shrink). */
void choice_encoded(struct choice *c, const struct pick *pick, size_t raw, size_t out, struct span span);
/* The same batch, with the rival. True when the rival's result is the one to send. */
bool choice_compared(struct choice *c, const struct pick *pick, size_t raw, size_t out, size_t rival_out,
                     int64_t rival_cpu_ns);
/* Whether accelerators are there to be chosen. */
void choice_set_devices(struct choice *c, bool devices);
/* An accelerator is done with a batch that it had since `submitted`. */
void choice_device_done(struct choice *c, enum page_kind kind, size_t raw, size_t out, int64_t submitted, int64_t now);
/* A batch was written: bytes of guest memory, on the wire, CPU time, and how long of the rest the connection took
 * nothing. */
void choice_written(struct choice *c, size_t raw, size_t bytes, int64_t cpu_ns, int64_t blocked_ns, int64_t now);
/* A pass begins, or goes on after a pause: what lies before says nothing of the link. */
void choice_resume(struct choice *c, int64_t now);

/* For those who ask before a migration. The rungs of the ladder, 0 to CHOICE_RUNGS - 1; which of them would be chosen
 * for memory on which each does what `rungs` says; and how long a byte of guest memory keeps the CPUs, ns: those of the
 * side that takes longer. They take no lock: nobody else knows this chooser. */
const struct rung *choice_rung(int i);
int choice_foresee(struct choice *c, const struct rung_cost rungs[CHOICE_RUNGS]);
double choice_work(const struct choice *c, const struct rung *r, double encode_time, double part);

/* Whether the link is what is waited for. */
bool choice_link_bound(struct choice *c);
/* Bytes/s that the link is thought to carry. */
double choice_link_rate(struct choice *c);

#endif
