/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection between the two godwits: whole buffers in, whole buffers out.
 *
 * A connection belongs to one thread that writes and one that reads. Any thread may call conn_break(), which makes the
 * others return with an error; the descriptor stays open until conn_close() so that its number is not used again.
 */
#ifndef GODWIT_WIRE_CONN_H
#define GODWIT_WIRE_CONN_H

#include "base/error.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct limit;

struct conn {
    int fd;
    const char *name;                /* for messages: "channel 1"; not owned */
    _Atomic int64_t patience;        /* ns that one read may take in all, however it drips; 0: any time */
    struct limit *limit;             /* shared by all connections of a migration; NULL: none */
    _Atomic uint64_t sent, received; /* bytes */
    _Atomic int64_t blocked;         /* ns that writes had to wait until the connection, or the limit, took more */
};

/* Takes over a blocking descriptor. */
void conn_init(struct conn *c, int fd, const char *name);
void conn_close(struct conn *c);
void conn_break(struct conn *c);

/* Bytes that were written and that the peer's host has not acknowledged. */
uint64_t conn_queued(const struct conn *c);
/* ns from here to the peer's host and back, as TCP sees it; `otherwise` when it is not TCP. */
int64_t conn_round_trip(const struct conn *c, int64_t otherwise);
int conn_write(struct conn *c, const void *data, size_t size, struct error *err);
/* Writes all of `count` pieces; changes the array. */
int conn_writev(struct conn *c, struct iovec *iov, int count, struct error *err);
/* Reads exactly `size` bytes. */
int conn_read(struct conn *c, void *data, size_t size, struct error *err);
/* The same, but 1 when the peer has closed before the first byte, 0 when all bytes came. */
int conn_read_or_end(struct conn *c, void *data, size_t size, struct error *err);

#endif
