/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/qemu.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/qemu/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define GREETING_TIMEOUT (5 * CLOCK_S)

/* What is kept of all that QEMU tells; MIGRATION only ends waits, whose owner then asks. */
static const char *const event_names[] = { "STOP", "RESUME", "SHUTDOWN", "MIGRATION", NULL };

static void on_event(void *opaque, const struct qmp_event *event) {
    struct qemu *q = opaque;
    if (strcmp(event->name, "STOP") == 0) {
        q->stopped_at = event->when;
    }
}

static void qemu_set_deadline(struct vmm *vmm, int64_t at) {
    qmp_set_deadline(qemu_of(vmm)->qmp, at);
}

static void qemu_set_watch(struct vmm *vmm, const struct vmm_watch *watch) {
    qmp_set_watch(qemu_of(vmm)->qmp, watch);
}

/* The start time of a process in clock ticks: with its pid it names the process for good. */
static int start_time(pid_t pid, uint64_t *ticks, struct error *err) {
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return error_errno(err, ERROR_SYSTEM, "cannot read %s: is %d the process of this QEMU", path, (int)pid);
    }
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = '\0';
    /* the name, in parentheses, may hold anything; the start time is the 20th field behind it */
    char *field = strrchr(text, ')'), *rest = field;
    for (int i = 0; i < 20 && rest != NULL; i++) {
        rest = strchr(rest + 1, ' ');
    }
    if (rest == NULL) {
        return error_set(err, ERROR_SYSTEM, "cannot parse %s", path);
    }
    *ticks = strtoull(rest + 1, NULL, 10);
    return 0;
}

/* Takes the guest for this godwit. An abstract socket name is free again when the last process that holds it is gone,
 * however it ended: that is us or our guardian. */
static int take_lock(struct qemu *q, struct error *err) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    uint64_t ticks = 0;
    if (start_time(q->vmm.pid, &ticks, err) < 0) {
        return -1;
    }
    int n = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "godwit-%d-%" PRIu64, (int)q->vmm.pid, ticks);
    q->lock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (q->lock < 0) {
        return error_errno(err, ERROR_SYSTEM, "socket");
    }
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    if (bind(q->lock, (const struct sockaddr *)&address, size) == 0) {
        return 0;
    }
    if (errno == EADDRINUSE) {
        return error_set(err, ERROR_REFUSED, "another godwit works on this guest (QEMU process %d)", (int)q->vmm.pid);
    }
    return error_errno(err, ERROR_SYSTEM, "cannot lock the guest");
}

static void qemu_close(struct vmm *vmm) {
    struct qemu *q = qemu_of(vmm);
    qemu_free_ram(vmm);
    qmp_close(q->qmp);
    if (q->lock >= 0) {
        close(q->lock);
    }
    if (q->undo != NULL) {
        munmap(q->undo, sizeof(*q->undo));
    }
    free(q);
}

static int qemu_guest_running(struct vmm *vmm, bool *running, struct error *err) {
    struct query_state state;
    if (query_state(qemu_of(vmm)->qmp, &state, err) < 0) {
        return -1;
    }
    *running = state.running;
    return 0;
}

/* An empty transaction still drains all block nodes (bdrv_drain_all) before it does nothing. */
static int qemu_drain(struct vmm *vmm, struct error *err) {
    return qmp_execute(qemu_of(vmm)->qmp, "transaction", json_pack("{s:[]}", "actions"), NULL, QMP_LONG_TIMEOUT, err);
}

static int qemu_quit(struct vmm *vmm, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    SHIELD(q);
    if (qmp_execute(q->qmp, "quit", NULL, NULL, QMP_TIMEOUT, err) < 0 && !qmp_gone(q->qmp)) {
        return -1;
    }
    error_clear(err); /* it may be gone before its answer is out */
    return 0;
}

static int qemu_poll_fd(struct vmm *vmm) {
    return qmp_poll_fd(qemu_of(vmm)->qmp);
}

static int qemu_drive(struct vmm *vmm, struct error *err) {
    return qmp_drive(qemu_of(vmm)->qmp, err);
}

int qemu_close_fd(struct qemu *q, struct error *err) {
    json_t *args = json_pack("{s:s}", "fdname", DEVICE_FD_NAME);
    struct error ignored = { 0 };
    if (qmp_execute(q->qmp, "closefd", args, NULL, QMP_TIMEOUT, &ignored) < 0 && qmp_gone(q->qmp)) {
        return error_set(err, ignored.class, "%s", ignored.desc);
    }
    return 0; /* refused: a migration has taken it already */
}

static const struct vmm_ops ops = {
    .name = "qemu",
    .close = qemu_close,
    .set_deadline = qemu_set_deadline,
    .set_watch = qemu_set_watch,
    .inspect = qemu_inspect,
    .describe = qemu_describe,
    .cpu_threads = qemu_cpu_threads,
    .match = qemu_match,
    .unchanged = qemu_unchanged,
    .guest_running = qemu_guest_running,
    .drain = qemu_drain,
    .prepare = qemu_prepare,
    .stop = qemu_stop,
    .release_device_state = qemu_release_device_state,
    .wait_saved = qemu_wait_saved,
    .undo = qemu_undo,
    .load_begin = qemu_load_begin,
    .wait_loaded = qemu_wait_loaded,
    .run = qemu_run,
    .settle = qemu_settle,
    .discard = qemu_discard,
    .quit = qemu_quit,
    .poll_fd = qemu_poll_fd,
    .drive = qemu_drive,
};

static int open_connection(struct qemu *q, const char *qmp_path, struct error *err) {
    q->qmp = qmp_connect(qmp_path, GREETING_TIMEOUT, err);
    if (q->qmp == NULL) {
        return -1;
    }
    if (q->vmm.pid == 0) {
        q->vmm.pid = qmp_peer_pid(q->qmp);
    }
    /* before the greeting: another godwit on the same monitor is told from any other client */
    if (q->vmm.pid != 0 && take_lock(q, err) < 0) {
        return -1;
    }
    qmp_on_event(q->qmp, event_names, on_event, q);
    return qmp_negotiate(q->qmp, GREETING_TIMEOUT, err);
}

struct vmm *vmm_qemu_open(const char *qmp_path, pid_t pid, struct error *err) {
    struct qemu *q = calloc(1, sizeof(*q));
    if (q == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory");
        return NULL;
    }
    q->vmm = (struct vmm){ .ops = &ops, .pid = pid };
    q->lock = -1;
    q->undo = mmap(NULL, sizeof(*q->undo), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (q->undo == MAP_FAILED) {
        q->undo = NULL;
        error_errno(err, ERROR_SYSTEM, "no memory");
        qemu_close(&q->vmm);
        return NULL;
    }
    if (open_connection(q, qmp_path, err) < 0) {
        qemu_close(&q->vmm);
        return NULL;
    }
    return &q->vmm;
}
