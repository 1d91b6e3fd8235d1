/* SPDX-License-Identifier: Apache-2.0 */
/* Both halves of the RAM path in one process: a source and a destination with the same blocks, over socketpairs. */
#ifndef GODWIT_TESTS_UNIT_RIG_H
#define GODWIT_TESTS_UNIT_RIG_H

#include "ram/receive.h"
#include "ram/send.h"
#include "support.h"

#define RIG_CHANNELS 4

struct rig {
    unsigned channels, pages_per_batch;
    struct ram source, destination;
    struct conn to[RIG_CHANNELS], from[RIG_CHANNELS]; /* the sender's ends, the receiver's ends */
    struct compression_settings compression;
    struct ram_send *send; /* NULL: the test itself writes frames to `to` */
    struct ram_receive *receive;
    uint32_t pass; /* the last one that was started */
};

struct rig_plan {
    const uint64_t *block_pages;
    size_t blocks;
    unsigned channels, pages_per_batch;
    int codec; /* COMPRESSION_AUTO or an id */
    bool no_sender;
    unsigned threads; /* that compress, and that decode; 0: two */
    bool no_digests;
    uint64_t cache; /* bytes for last sent versions */
};

/* The key of all rigs. */
const struct digest_key *rig_key(void);

/* Fails the test when it cannot. All files are holes, nothing is dirty. */
void rig_open(struct rig *r, const struct rig_plan *plan);
void rig_close(struct rig *r);

/* Sends what is dirty and waits until it is in place: 0, or -1 with the first failure of either side. */
int rig_pass(struct rig *r, struct error *err);
/* Waits until the receiver has `pass`: 0, or -1 with its failure. */
int rig_wait_received(struct rig *r, uint32_t pass, struct error *err);

/* Writes a page of the source and marks it dirty; NULL: punches it out. */
void rig_write(struct rig *r, size_t block, uint64_t page, const uint8_t *data);
/* Fails unless every page of both sides is the same. */
void rig_assert_equal(struct rig *r);
/* A page of the destination. In a static buffer. */
const uint8_t *rig_placed(struct rig *r, size_t block, uint64_t page);

#endif
