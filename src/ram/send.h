/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sending half of the RAM path.
 *
 *   main thread   scan → drain → ram_send_start() ............ ram_send_fd() is readable: ram_send_poll()
 *   threads       gather and compress a batch │ write a batch to a free channel │ end the pass on a channel
 *
 * The threads have no fixed duty. Each takes what there is to do: at most `compress-threads` of them gather and
 * compress at one time, and each channel is written by one. As long as a channel is free a batch is written by the
 * thread that made it, while it is in that core's cache; when all are busy it waits for the next one to become free. So
 * the number of channels and the number of compressing threads are set apart, and nothing is handed over that need not
 * be.
 */
#ifndef GODWIT_RAM_SEND_H
#define GODWIT_RAM_SEND_H

#include "accel/accel.h"
#include "base/error.h"
#include "host/pace.h"
#include "ram/block.h"
#include "ram/choice.h"
#include "ram/costs.h"
#include "ram/counters.h"
#include "ram/digest.h"
#include "wire/conn.h"

#include <stdbool.h>
#include <stdint.h>

struct ram_send_config {
    unsigned channels;
    unsigned max_threads; /* that gather and compress, at most, ever */
    unsigned pages_per_batch;
    struct conn *conns;                             /* one per channel; stay valid until ram_send_close() */
    const struct compression_settings *compression; /* likewise */
    const struct digest_key *key;                   /* likewise */
    struct cpu_pace *pace;                          /* likewise; NULL: no budget */
    struct accel *accel;                            /* NULL: none. Stays open until ram_send_stop() */
};

struct ram_send;

/* Starts the threads, which wait for a pass. */
struct ram_send *ram_send_open(struct ram *ram, const struct ram_send_config *config, struct error *err);
/* Ends and joins the threads. When a pass is running its connections must have been broken before. NULL is allowed.
 * Between this and ram_send_close() accelerators are closed: what they still have comes back first. */
void ram_send_stop(struct ram_send *s);
/* Stops, when that has not been done, and frees. NULL is allowed. */
void ram_send_close(struct ram_send *s);

/* Begins a pass over the dirty pages and returns its number, from 1. None is running. `whole`: over all of them;
 * otherwise chunks that are to wait stay dirty. */
uint32_t ram_send_start(struct ram_send *s, bool whole);
/* Main thread: which chunks are to wait, and which did (pass_set_waiting(), pass_get_passed()). */
void ram_send_set_waiting(struct ram_send *s, const uint64_t *chunks);
void ram_send_get_passed(const struct ram_send *s, uint64_t *chunks);
/* Main thread, within a pass: pages that were written and do not wait, dirty, in a chunk that was passed over. */
uint64_t ram_send_fresh_pages(const struct ram_send *s);
/* 1 when the pass is finished, 0 when not yet, -1 with the first failure of a thread. */
int ram_send_poll(struct ram_send *s, struct error *err);
/* Readable when a pass is finished or a thread has failed. */
int ram_send_fd(const struct ram_send *s);
/* The number of the running or last pass. */
uint32_t ram_send_pass(const struct ram_send *s);

/* Main thread. How many threads may gather and compress from now on (1 … max_threads), and how many CPUs the engine may
 * use, for the choice of codecs. */
void ram_send_set_threads(struct ram_send *s, unsigned threads, double cpus);
/* What receiving costs the destination, for the choice of codecs. */
void ram_send_set_peer(struct ram_send *s, const struct peer_load *load);
/* Main thread, between passes. While the guest runs, its threads come first: ours have a lower priority and keep to the
 * CPU budget. When it stands still (urgent), each wait of ours is its downtime. */
void ram_send_set_urgent(struct ram_send *s, bool urgent);
/* Main thread, between passes. The bytes for last sent versions; what was in the cache is kept when nothing changes. */
void ram_send_set_cache(struct ram_send *s, uint64_t bytes);
/* Main thread, at any time: no more pages get into it than so many bytes. And what it holds. */
void ram_send_limit_cache(struct ram_send *s, uint64_t bytes);
uint64_t ram_send_cache_held(const struct ram_send *s);
/* Main thread, between passes: it is not known what the destination holds of these pages; they are sent again, in full.
 */
void ram_send_forget(struct ram_send *s, uint16_t block, uint64_t first, uint64_t count);

/* What this accelerator made, as a frame names it, did not decode. */
void ram_send_blame(struct ram_send *s, unsigned device);

struct ram_counters *ram_send_counters(struct ram_send *s);
/* Whether the link, not the CPU, is what batches wait for now. */
bool ram_send_link_bound(struct ram_send *s);

#endif
