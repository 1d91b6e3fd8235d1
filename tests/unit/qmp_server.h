/* SPDX-License-Identifier: Apache-2.0 */
/* A QMP server for tests: one end of a socketpair with a thread that plays QEMU, well or badly. */
#ifndef GODWIT_TESTS_UNIT_QMP_SERVER_H
#define GODWIT_TESTS_UNIT_QMP_SERVER_H

#include "base/clock.h"
#include "vmm/qemu/qmp.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define SHORT (200 * CLOCK_MS)
#define LONG (20 * CLOCK_S)

struct server {
    pthread_t thread;
    int fd;
    void (*serve)(struct server *s);
    int passed; /* a descriptor that came with the last command; -1: none */
    bool saw_reset;
    atomic_bool may_read;
    char held[8192]; /* what is read and not yet taken */
    size_t have;
};

/* Starts the thread, which runs `serve`; returns a client that is connected to it. */
struct qmp *begin(struct server *s, void (*serve)(struct server *));
/* What the thread runs, for a server over another kind of socket: the argument is the server. */
void *run_server(void *opaque);
/* Closes the client and ends the thread. */
void finish(struct server *s, struct qmp *q);

void say(struct server *s, const char *text);
/* The next command: its name in `name`, its id in `id`. Like QEMU it forgets what came before a 0xFF byte. False at the
 * end. */
bool hear(struct server *s, char name[64], char id[64]);
/* Returns a JSON value of at most some 400 bytes. */
void answer(struct server *s, const char *id, const char *value);
void answer_all(struct server *s);
/* Reads nothing until may_read is set. */
void serve_deaf(struct server *s);

#endif
