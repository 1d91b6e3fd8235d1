/* SPDX-License-Identifier: Apache-2.0 */
/* The receiving half of the RAM path: one thread per channel checks frames and puts pages in place. */
#ifndef GODWIT_RAM_RECEIVE_H
#define GODWIT_RAM_RECEIVE_H

#include "base/error.h"
#include "ram/block.h"
#include "wire/conn.h"

#include <stdint.h>

struct ram_receive;

/* Starts a thread for each of `channels` connections, which stay valid until ram_receive_close(). */
struct ram_receive *ram_receive_open(struct ram *ram, struct conn *conns, unsigned channels, unsigned pages_per_batch,
                                     struct error *err);
/* Whether everything of `pass` is in place: 1 or 0; -1 with the first failure of a channel. */
int ram_receive_poll(struct ram_receive *r, uint32_t pass, struct error *err);
/* Readable when ram_receive_poll() may have something new to say. */
int ram_receive_poll_fd(const struct ram_receive *r);
/* Pages placed with content. */
uint64_t ram_receive_pages(const struct ram_receive *r);
/* Joins the threads; their connections must have been broken or ended before. NULL is allowed. */
void ram_receive_close(struct ram_receive *r);

#endif
