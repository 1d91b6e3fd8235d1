/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of the QEMU Machine Protocol over a socket.
 *
 * One command is under way at a time. An answer is told by its id, which carries our pid and a counter, so an answer
 * that comes after its command timed out, or that belongs to the process we were forked from, matches nothing. Events
 * that arrive meanwhile are queued (event.h) and handed to the callback once the call is through, so the callback may
 * itself execute commands. Nothing that QEMU says is trusted: lines, events and garbage are bounded, and every call
 * ends at its timeout whatever comes.
 *
 * Besides its own timeout a call ends at the owner's deadline (qmp_set_deadline) and when the owner wants it to
 * (qmp_set_watch). The answer of a command that was left alone like that is skipped when it comes.
 *
 * Used by one thread at a time. A forked process may go on using its copy once the parent does not use it any more: it
 * calls qmp_resync() first.
 */
#ifndef GODWIT_VMM_QEMU_QMP_H
#define GODWIT_VMM_QEMU_QMP_H

#include "base/clock.h"
#include "base/error.h"
#include "vmm/qemu/event.h"
#include "vmm/watch.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define QMP_TIMEOUT (30 * CLOCK_S)
#define QMP_LONG_TIMEOUT (120 * CLOCK_S)

struct qmp;

typedef void qmp_event_fn(void *opaque, const struct qmp_event *event);

/* Connects to PATH, unix:PATH or tcp:HOST:PORT, but says nothing yet: the peer's pid is known from here on. */
struct qmp *qmp_connect(const char *where, int64_t timeout_ns, struct error *err);
/* The same over a connected socket, which it takes. NULL only when there is no memory (then `fd` is closed). */
struct qmp *qmp_from_fd(int fd, struct error *err);
void qmp_close(struct qmp *q);

/* Called from all waits of the calls below, twice a second and more often. One for a connection. */
void qmp_on_wait(struct qmp *q, void (*callback)(void *opaque), void *opaque);

/* The greeting and qmp_capabilities. A monitor that another client holds accepts us into its backlog and stays silent.
 */
int qmp_negotiate(struct qmp *q, int64_t timeout_ns, struct error *err);

/* From the greeting. */
struct qmp_version {
    int major, minor, micro;
};
struct qmp_version qmp_version(const struct qmp *q);
/* The process that listens on the socket; 0: not known (TCP, or another pid namespace). */
pid_t qmp_peer_pid(const struct qmp *q);
/* To poll for input; then call qmp_drive(). Owned by `q`. */
int qmp_poll_fd(const struct qmp *q);
/* Hands out the events of these names (NULL at the end; not owned); all others are dropped when they are read. */
void qmp_on_event(struct qmp *q, const char *const *names, qmp_event_fn *callback, void *opaque);

/* Until further notice every call ends at `at` (clock_now()) at the latest, with ERROR_TIMEOUT; INT64_MAX: no deadline.
 * After that moment nothing is sent any more. */
void qmp_set_deadline(struct qmp *q, int64_t at);
int64_t qmp_deadline(const struct qmp *q);
/* Until further notice this ends waits (ERROR_CANCELLED, or the tick's error); NULL: nothing does. Copied. */
void qmp_set_watch(struct qmp *q, const struct vmm_watch *watch);
/* While shielded, calls go on although the owner wants them to end (not beyond its deadline): for what puts things
 * back, and for what must not be left half-done. Returns what it was before. */
bool qmp_shield(struct qmp *q, bool shielded);

/* Executes a command. `args` is stolen, also on failure, and may be NULL. `*ret` becomes a new reference to what was
 * returned; `ret` may be NULL. QEMU's own error keeps its text: "QEMU refused COMMAND: DESC". */
int qmp_execute(struct qmp *q, const char *command, json_t *args, json_t **ret, int64_t timeout_ns, struct error *err);
/* The error class ("GenericError", "CommandNotFound", "DeviceNotFound", …) of the last command that QEMU refused; ""
 * when the last command did not end that way. */
const char *qmp_refusal(const struct qmp *q);
/* Whether QEMU has closed the connection. */
bool qmp_gone(const struct qmp *q);

/* Whether descriptors can travel with a command: not over TCP. */
bool qmp_takes_fds(const struct qmp *q);
/* Gives QEMU a copy of `fd` under `name`; the caller keeps its own. */
int qmp_getfd(struct qmp *q, int fd, const char *name, struct error *err);

/* Gives QEMU a copy of `fd` in a set of descriptors of its own, which is marked with `mark`; *id is the set's number.
 */
int qmp_add_fd(struct qmp *q, int fd, const char *mark, int64_t *id, struct error *err);

/* Waits for an event that is asked for, for at most `timeout_ns`, and hands out what came. 1: at least one; 0: none. */
int qmp_wait_event(struct qmp *q, int64_t timeout_ns, struct error *err);
/* Hands out the events that are there; does not wait. */
int qmp_drive(struct qmp *q, struct error *err);

/* Brings both ends to a message boundary whatever was cut off in the middle: makes QEMU's parser forget half a command
 * and skips what comes until a fresh command of our own is answered. Queued events are dropped. */
int qmp_resync(struct qmp *q, int64_t timeout_ns, struct error *err);

#endif
