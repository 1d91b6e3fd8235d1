/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control connection: JSON messages between the two godwits, and the watch over the connection.
 *
 * A thread of the link reads messages into a queue and sends a ping every second, whatever the main thread is busy
 * with. A peer that says nothing for `timeout` is gone: the link then breaks itself and every connection that was put
 * under its watch, so that no thread waits for a cut cable.
 */
#ifndef GODWIT_WIRE_LINK_H
#define GODWIT_WIRE_LINK_H

#include "base/error.h"
#include "wire/conn.h"

#include <jansson.h>
#include <stdint.h>

struct link;

/* A message that is longer than this is refused. */
#define LINK_MAX_MESSAGE (512u << 10)
/* So many wait to be taken: one request or reply is under way at a time. */
#define LINK_MAX_WAITING 16

/* Takes over the descriptor of an accepted control connection and starts the thread. */
struct link *link_open(int fd, int64_t timeout_ns, struct error *err);
/* Joins the thread, closes the connection. NULL is allowed. */
void link_close(struct link *l);

/* Another timeout from now on: the two sides have agreed. */
void link_set_timeout(struct link *l, int64_t timeout_ns);

/* `c` is broken when the link is. Must stay valid until link_close(). At most LINK_MAX_WATCHED. */
#define LINK_MAX_WATCHED 66
void link_watch(struct link *l, struct conn *c);

/* Sends a message; takes the reference. */
int link_send(struct link *l, json_t *message, struct error *err);

/* Takes the next message: 1 and a new reference in *message; 0 when none is there; -1 when the link is broken and all
 * messages that came before the break were taken. */
int link_receive(struct link *l, json_t **message, struct error *err);

/* Readable when link_receive() has something to say. */
int link_poll_fd(const struct link *l);
/* Breaks the link and all it watches, now. */
void link_break(struct link *l);
/* Bytes sent and received on the control connection. */
struct conn *link_conn(struct link *l);

#endif
