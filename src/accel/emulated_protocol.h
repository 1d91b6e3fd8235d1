/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said between godwit and an emulated device (tests/accel), over a SOCK_SEQPACKET socket: one message a packet,
 * all of one size. Both are on one host, as a driver and its card are, so numbers are in the host's byte order.
 *
 *   card  → WELCOME   instances (at most), depth (jobs that an instance takes)
 *   client→ ATTACH    instance (granted), size, out_size; with two descriptors: input memory, output memory
 *   client→ SUBMIT    slot, serial, instance, operation, level; offset and size of the input; out_offset, out_size of
 * the output card  → COMPLETE  slot, serial, status, codec, size anyone→ FAULT     status (enum emulated_fault), offset
 * (jobs from now), size (how many jobs); instead of ATTACH
 */
#ifndef GODWIT_ACCEL_EMULATED_PROTOCOL_H
#define GODWIT_ACCEL_EMULATED_PROTOCOL_H

#include <assert.h>
#include <stdint.h>

/* Another one for each version of the messages. */
#define EMULATED_MAGIC 0x67776164u

enum emulated_kind { EMULATED_WELCOME = 1, EMULATED_ATTACH, EMULATED_SUBMIT, EMULATED_COMPLETE, EMULATED_FAULT };
enum emulated_operation { EMULATED_DEFLATE, EMULATED_INFLATE, EMULATED_OPERATIONS };
enum emulated_status { EMULATED_OK, EMULATED_TOO_BIG, EMULATED_FAILED };
enum emulated_fault {
    EMULATED_HANG,     /* the job is never answered */
    EMULATED_RESET,    /* the connection that the job came on is closed */
    EMULATED_GARBAGE,  /* a right size, wrong bytes */
    EMULATED_ERROR,    /* EMULATED_FAILED */
    EMULATED_OVERSIZE, /* a size behind the end of the output */
    EMULATED_FAULTS
};

struct emulated_message {
    uint32_t magic;
    uint16_t kind;
    uint16_t instance;
    uint32_t slot, serial;
    uint32_t status;
    uint32_t codec;
    uint32_t depth;
    uint16_t level, operation;
    uint64_t offset, size;
    uint64_t out_offset, out_size;
};
static_assert(sizeof(struct emulated_message) == 64, "no padding");

#endif
