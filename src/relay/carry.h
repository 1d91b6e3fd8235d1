/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries one connection of QEMU's to the other relay and back. Both relays do the same, each for its QEMU:
 *
 *              out: who calls carry_run()
 *   QEMU  ───────────── bytes ──► tally, digest ──► DATA ──────────────►  the other relay
 *         ◄──── bytes, when their digest is right ◄──── DATA ───────────
 *              in: a thread
 *
 * Each half has one packet in its hands and no more: who is not taken from is not read from, so what waits lies in the
 * sockets' buffers, and QEMU feels it. Neither half ever waits for the other one, so a QEMU that reads nothing until it
 * has written, or the other way round, is carried too.
 *
 * An end is carried as an end: when QEMU closes, END goes over, and the other QEMU sees its connection end behind the
 * last byte. A failure of any kind ends both halves, and is told to the other relay if it can be: both QEMUs see their
 * connections end too early. Which is which docs/correctness.md says.
 */
#ifndef GODWIT_RELAY_CARRY_H
#define GODWIT_RELAY_CARRY_H

#include "base/error.h"
#include "relay/reader.h"
#include "relay/tally.h"
#include "wire/conn.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum carry_side {
    CARRY_AT_SOURCE,
    CARRY_AT_DESTINATION,
};

struct carry {
    enum carry_side side;
    int qemu;              /* owned; -1: not connected yet */
    struct conn wire;      /* to the other relay, owned; fd -1: not connected yet */
    struct reader *reader; /* of what this QEMU says; at the source, NULL else */
    /* Told at once when a half has failed, by that half. NULL: nobody */
    void (*on_failure)(void *opaque, const struct error *why);
    void *opaque;
    struct tally sent, taken;
    uint8_t *out_data, *in_data; /* PACKET_MOST bytes and a NUL */
    _Atomic bool qemu_ended;     /* this QEMU has said all that it will say */
    int64_t silence;             /* ns */
    bool deaf;                   /* in's own: this QEMU takes nothing any more */
    uint64_t data_packets;       /* out's own */

    pthread_mutex_t lock; /* owns all below */
    pthread_cond_t changed;
    bool is_tcp; /* QEMU's connection */
    bool failed;
    struct error failure; /* the first */
    bool other_failed;    /* the other relay said so */
    bool wire_broken;     /* a half of ours saw it */
    bool end_sent, end_taken;
    bool out_over, in_over;
};

/* All but the connections: the owner puts in `wire` before carry_run(), and QEMU's by carry_set_qemu(). */
int carry_init(struct carry *c, enum carry_side side, struct error *err);
/* Takes the descriptor over. */
void carry_set_qemu(struct carry *c, int fd);
/* Closes everything. Not while carry_run() runs. */
void carry_close(struct carry *c);

/* Until both directions have ended. `silence`: ns after which an other relay that says nothing is gone. -1: it failed,
 * and this QEMU has been cut off. */
int carry_run(struct carry *c, int64_t silence, struct error *err);
/* Makes it fail, for that reason, within seconds. From any thread, before carry_run() too. */
void carry_fail(struct carry *c, const struct error *why);

#endif
