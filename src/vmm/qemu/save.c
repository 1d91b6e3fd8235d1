/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's half of the hand-over without a migration of QEMU's (VMM_WAY_SAVE).
 *
 *   stop()      stop                                         ──► "paused"
 *   release()   add-fd, xen-save-devices-state, remove-fd    ──► the state is in memory of ours; disks are given up
 *   wait()      composed (compose.h) and written to who relays it
 *   back        cont: takes the disks back, and runs the guest (undo.c)
 *
 * xen-save-devices-state does what it is told, whatever comes of it. So what must be so is looked at right before and
 * right behind it:
 *   - nothing blocks a migration, or QEMU may end in it;
 *   - the guest stands still. One that runs it stops, saves and lets run on, its disks not given up;
 *   - it is not made twice without a `cont` in between, or QEMU 7.2 ends. It is made of a guest that ran until we
 * stopped it, and who let that guest run took its disks back. So there is no attempt at a guest that is paused;
 *   - all disks are given up. From 10.0 on it says nothing when one is not, and metadata in QEMU's memory would be
 *     missing at the destination. (Before 10.0 it fails then.)
 */
#include "base/cleanup.h"
#include "vmm/qemu/compose.h"
#include "vmm/qemu/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define WRITE_LOOK (1 * CLOCK_MS)
#define SOCKET_BUFFER (8 << 20) /* bytes: a usual device state goes into it at once */
#define TELLS_ACTIVE 10         /* the first QEMU that says of a disk whether it is given up */

/* ---- stop ---- */

/* `stop` says nothing of a guest that stands still already; that it was this one that stopped it an event tells. */
static int check_stopped(struct qemu *q, struct error *err) {
    struct query_state state;
    if (query_state(q->qmp, &state, err) < 0 || qemu_check_was_stopped(q, &q->did.save->guest_ran, err) < 0) {
        return -1;
    }
    if (state.running) {
        return error_set(err, ERROR_REFUSED, "somebody has let the guest run in the moment in which it was stopped");
    }
    if (strcmp(state.name, "paused") != 0 || q->stopped_at == 0) {
        q->did.save->guest_ran = false;
        return error_set(err, ERROR_REFUSED,
                         "the guest was stopped by somebody else in the moment in which it was to be stopped (it is "
                         "\"%s\"): it is left here as it is",
                         state.name);
    }
    return 0;
}

int qemu_save_stop(struct qemu *q, int fd, int64_t *stopped_at, struct error *err) {
    int64_t limit = qmp_deadline(q->qmp) == INT64_MAX ? INT64_MAX : qmp_deadline(q->qmp) - clock_now();
    q->by_itself[0] = '\0';
    if (qemu_can_move(&q->vmm, err) < 0) {
        return -1;
    }
    qemu_saved_fd_close(q);
    q->save.out = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (q->save.out < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot keep the way for the device state");
    }
    q->stopped_at = 0;
    q->resumed = false;
    *q->did.save = (struct did_save){ .guest_ran = true };
    ledger_set(q->did.save, true);
    ledger_stand(q->vmm.ledger, LEDGER_STOPPED, true);
    if (qmp_execute(q->qmp, "stop", NULL, NULL, QMP_TIMEOUT, err) < 0 || check_stopped(q, err) < 0) {
        return -1;
    }
    qemu_follow_stop(q, limit);
    *stopped_at = q->stopped_at;
    return 0;
}

/* ---- save ---- */

/* By the events that are there. */
int qemu_save_check_still(struct qemu *q, struct error *err) {
    /* It was our `stop` that it has stopped for: whatever is said since, a disk's error that comes late, it ran before,
     * and only `cont` gives it its disks back. */
    if (qmp_drive(q->qmp, err) < 0 || qemu_check_was_stopped(q, NULL, err) < 0) {
        return -1;
    }
    return q->resumed ? error_set(err, ERROR_REFUSED, "somebody has let the guest run here meanwhile") : 0;
}

static int check_before(struct qemu *q, struct error *err) {
    struct query_migration m;
    if (query_migration(q->qmp, &m, err) < 0) {
        return -1;
    }
    if (m.blocked[0] != '\0') {
        return error_set(err, ERROR_REFUSED, "QEMU says by now that this guest cannot be migrated: %s", m.blocked);
    }
    if (query_migration_live(&m)) {
        return error_set(err, ERROR_REFUSED, "somebody has begun to migrate this guest (\"%s\")", m.name);
    }
    return qemu_save_check_still(q, err);
}

static int check_given_up(struct qemu *q, struct error *err) {
    CLEANUP_JSON json_t *nodes = NULL;
    size_t i;
    json_t *node;
    if (qmp_version(q->qmp).major < TELLS_ACTIVE) {
        return 0;
    }
    json_t *args = json_pack("{s:b}", "flat", 1);
    if (qmp_execute(q->qmp, "query-named-block-nodes", args, &nodes, QMP_TIMEOUT, err) < 0) {
        return -1;
    }
    json_array_foreach(nodes, i, node) {
        char name[64];
        if (json_is_true(json_object_get(node, "active"))) {
            query_string(json_object_get(node, "node-name"), name, sizeof(name));
            return error_set(err, ERROR_VMM,
                             "QEMU has saved the device state and has not given up the disk node %s: its log or "
                             "stderr may say why",
                             name);
        }
    }
    return 0;
}

static int check_behind(struct qemu *q, struct error *err) {
    struct query_state state;
    if (query_state(q->qmp, &state, err) < 0 || qemu_save_check_still(q, err) < 0) {
        return -1;
    }
    return strcmp(state.name, "paused") == 0
               ? check_given_up(q, err)
               : error_set(err, ERROR_VMM, "the guest is \"%s\" after its state was saved", state.name);
}

static int save(struct qemu *q, int64_t id, struct error *err) {
    char path[64];
    snprintf(path, sizeof(path), "/dev/fdset/%lld", (long long)id);
    json_t *args = json_pack("{s:s, s:b}", "filename", path, "live", 1);
    return qmp_execute(q->qmp, "xen-save-devices-state", args, NULL, QMP_TIMEOUT, err);
}

int qemu_save(struct qemu *q, struct error *err) {
    int64_t id;
    if (check_before(q, err) < 0 || qemu_saved_fd_give(q, &id, err) < 0 || save(q, id, err) < 0 ||
        qemu_saved_fd_take_back(q, id, err) < 0) {
        return -1;
    }
    return check_behind(q, err);
}

/* ---- write ---- */

struct writer {
    struct qemu *q;
    int64_t deadline;
};

/* The owner's deadline and what it watches end this as they end a command. */
static int wait_writable(struct writer *w, struct error *err) {
    struct qmp *qmp = w->q->qmp;
    if (qmp_wait_event(qmp, WRITE_LOOK, err) < 0) {
        return -1;
    }
    int64_t now = clock_now();
    if (now >= qmp_deadline(qmp)) {
        return error_set(err, ERROR_TIMEOUT,
                         "the device state was not taken before the stop limit was over (stop-limit)");
    }
    return now < w->deadline ? 0 : error_set(err, ERROR_LINK, "the device state was not taken in time");
}

static int write_some(void *opaque, const uint8_t *data, size_t size, struct error *err) {
    struct writer *w = opaque;
    while (size > 0) {
        ssize_t n = send(w->q->save.out, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            if (wait_writable(w, err) < 0) {
                return -1;
            }
        } else if (n < 0 && errno != EINTR) {
            return error_errno(err, ERROR_VMM, "the saved device state could not be handed on");
        } else if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

int qemu_save_write(struct qemu *q, int64_t timeout_ns, struct error *err) {
    struct writer writer = { .q = q, .deadline = clock_now() + timeout_ns };
    const struct vmm_sink sink = { .take = write_some, .opaque = &writer };
    const struct compose c = {
        .machine = q->save.machine, .left = q->save.left, .left_count = q->save.left_count, .saved = q->save.memory
    };
    int buffer = SOCKET_BUFFER;
    setsockopt(q->save.out, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
    int result = compose(&c, &sink, err);
    if (result == 0) {
        shutdown(q->save.out, SHUT_WR);
    }
    qemu_saved_fd_close(q);
    return result;
}
