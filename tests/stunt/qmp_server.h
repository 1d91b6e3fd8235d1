/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The QMP socket: one client at a time, the next one waits in the backlog. JSON objects come in with descriptors beside
 * them; answers and events go out through a queue that one thread empties, so that no client can hold up the guest.
 */
#ifndef STUNT_QMP_SERVER_H
#define STUNT_QMP_SERVER_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>

struct qmp_server;

/* What to do with one object that a client sent; the answer is a new reference, NULL for none at all. `session` starts
 * with every client, and the callback sets `*ready` when the client may see events. Runs on the server's thread. */
struct qmp_handler {
    json_t *(*answer)(void *context, json_t *request, bool *ready);
    /* After an answer: whether that was the last one. */
    bool (*over)(void *context);
    void *context;
    const char *greeting; /* one line */
};

/* Listens at `path`; SIGTERM and SIGINT must be blocked in every thread, the server ends when one comes. */
struct qmp_server *qmp_server_new(const char *path, const struct qmp_handler *handler, struct error *err);
void qmp_server_free(struct qmp_server *server);
/* Serves clients until the handler says that it is over, or a signal asks for the end. */
int qmp_server_run(struct qmp_server *server, struct error *err);

/* From any thread. Takes over `data` (NULL for none). */
void qmp_server_event(struct qmp_server *server, const char *name, json_t *data);
/* The descriptor that came with the last message that had one; -1 for none. The caller owns it. */
int qmp_server_take_fd(struct qmp_server *server);
/* Removes the socket's name, as QEMU does when it ends. From any thread. */
void qmp_server_remove(struct qmp_server *server);

#endif
