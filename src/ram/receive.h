/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiving half of the RAM path.
 *
 * Its threads take turns: one that finds a channel without a reader reads a frame from it, hands the channel on, and
 * decodes and places what it read itself. So as many threads decode as `decompress-threads` says, whatever the number
 * of channels, and a frame stays with the core that received it. A channel has placed a pass when the last of its
 * frames is in place, not when it was read (the bug that seeds.md C8 tells of was just that).
 */
#ifndef GODWIT_RAM_RECEIVE_H
#define GODWIT_RAM_RECEIVE_H

#include "base/error.h"
#include "host/pace.h"
#include "ram/block.h"
#include "ram/costs.h"
#include "ram/digest.h"
#include "wire/conn.h"
#include "wire/frame.h"

#include <stdint.h>

struct ram_receive_config {
    unsigned channels;
    unsigned decode_threads; /* that decode and place at one time */
    unsigned pages_per_batch;
    struct conn *conns;           /* one per channel; stay valid until ram_receive_close() */
    const struct digest_key *key; /* likewise */
    struct cpu_pace *pace;        /* likewise; NULL: no budget */
    struct accel *accel;          /* likewise; NULL: software decodes */
};

/* Pages that were not placed, for what an accelerator at the source made of them does not decode. */
struct ram_rejection {
    struct ram_rejection *next;
    uint16_t block;
    uint8_t device; /* of the source, from 1; 0: a change on top of such a page */
    uint32_t runs;
    struct frame_run run[]; /* ascending */
};

struct ram_receive;

struct ram_receive *ram_receive_open(struct ram *ram, const struct ram_receive_config *config, struct error *err);
/* Whether everything of `pass` is in place or was rejected: 1 or 0; -1 with the first failure of a channel. */
int ram_receive_poll(struct ram_receive *r, uint32_t pass, struct error *err);
/* Readable when ram_receive_poll() may have something new to say. */
int ram_receive_poll_fd(const struct ram_receive *r);
/* The next rejection that the source has to be told of, or NULL; the caller frees it. All of a pass are there when
 * ram_receive_poll() says that the pass is in place. */
struct ram_rejection *ram_receive_take_rejection(struct ram_receive *r);
/* How many threads decode and place at the same time. */
unsigned ram_receive_threads(const struct ram_receive *r);
/* The guest stands still from here on: no accelerator is asked, which might hang. */
void ram_receive_set_urgent(struct ram_receive *r);
/* Batches that no accelerator could decode and software did. */
uint64_t ram_receive_fallbacks(const struct ram_receive *r);
/* What it costs; any thread may look. */
const struct receive_costs *ram_receive_costs(const struct ram_receive *r);
/* Pages that were rejected and have not come again. */
uint64_t ram_receive_rejected(const struct ram_receive *r);
/* Pages placed with content. */
uint64_t ram_receive_pages(const struct ram_receive *r);
/* Joins the threads; their connections must have been broken or ended before. NULL is allowed. */
void ram_receive_close(struct ram_receive *r);

#endif
