/* SPDX-License-Identifier: Apache-2.0 */
/* The sending half of the RAM path: one thread per channel turns chunks of a pass into frames. */
#ifndef GODWIT_RAM_SEND_H
#define GODWIT_RAM_SEND_H

#include "base/error.h"
#include "ram/choice.h"
#include "ram/counters.h"
#include "ram/pass.h"
#include "wire/conn.h"

struct ram_send_config {
    unsigned channels;
    unsigned pages_per_batch;
    struct conn *conns;                             /* one per channel; stay valid until ram_send_close() */
    const struct compression_settings *compression; /* likewise */
};

struct ram_send;

/* Starts the threads, which wait for a pass. */
struct ram_send *ram_send_open(struct ram *ram, const struct ram_send_config *config, struct error *err);
struct pass *ram_send_pass(struct ram_send *s);
struct ram_counters *ram_send_counters(struct ram_send *s);
/* Ends and joins the threads. When a pass is running its connections must have been broken before. NULL is allowed. */
void ram_send_close(struct ram_send *s);

#endif
