/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/qemu.h"

#include "vmm/qemu/internal.h"

#include <stdlib.h>
#include <string.h>

#define GREETING_TIMEOUT (5 * CLOCK_S)

/* What is kept of all that QEMU tells; MIGRATION only ends waits, whose owner then asks. */
static const char *const event_names[] = { "STOP",           "RESUME",         "SHUTDOWN", "MIGRATION",
                                           "BLOCK_IO_ERROR", "GUEST_PANICKED", "WATCHDOG", NULL };

/* What makes a guest stop by itself. Not a watchdog's "shutdown": that presses the power button of one that runs on. */
static bool stops_guest(const struct qmp_event *event) {
    static const char *const stopping[] = { "stop", "pause", "poweroff" };
    bool stops = strcmp(event->name, "SHUTDOWN") == 0;
    for (size_t i = 0; i < sizeof(stopping) / sizeof(stopping[0]); i++) {
        stops = stops || strcmp(event->action, stopping[i]) == 0;
    }
    return stops;
}

/* QEMU says so before the guest's first instruction. From then on the destination has it, however it fares there: what
 * it wrote to its disks the source's copy does not know. */
static void note_resumed(struct qemu *q) {
    struct ledger *l = q->vmm.ledger;
    q->resumed = true;
    if (q->side == VMM_DESTINATION && !ledger_was_left(l) && ledger_owner(l) == LEDGER_DESTINATION) {
        ledger_note_ran(l);
    }
}

static void on_event(void *opaque, const struct qmp_event *event) {
    struct qemu *q = opaque;
    q->changes++;
    if (stops_guest(event)) {
        memcpy(q->by_itself, event->name, sizeof(q->by_itself));
    } else if (strcmp(event->name, "STOP") == 0) {
        q->stopped_at = event->when;
    } else if (strcmp(event->name, "RESUME") == 0) {
        note_resumed(q);
    } else if (strcmp(event->name, "MIGRATION") == 0) {
        q->said_at = event->when;
        memcpy(q->said, event->word, sizeof(q->said));
    }
}

static void qemu_set_deadline(struct vmm *vmm, int64_t at) {
    qmp_set_deadline(qemu_of(vmm)->qmp, at);
}

static void qemu_set_watch(struct vmm *vmm, const struct vmm_watch *watch) {
    qmp_set_watch(qemu_of(vmm)->qmp, watch);
}

/* An answer of QEMU may take longer than an engine may be silent. */
static void beat(void *ledger) {
    ledger_beat(ledger);
}

/* Takes the guest for this godwit, and sees what an earlier one left. */
static int take_ledger(struct qemu *q, struct error *err) {
    uint64_t start = 0;
    if (q->vmm.pid != 0 && process_start_time(q->vmm.pid, &start, err) < 0) {
        return error_prefix(err, "is %d the process of this QEMU? ", (int)q->vmm.pid);
    }
    q->vmm.ledger = ledger_open(q->vmm.pid, start, err);
    if (q->vmm.ledger == NULL) {
        return -1;
    }
    if (ledger_was_left(q->vmm.ledger)) {
        q->side = ledger_side(q->vmm.ledger) == LEDGER_AT_SOURCE ? VMM_SOURCE : VMM_DESTINATION;
        qemu_find_done(q);
    }
    return 0;
}

static void qemu_close(struct vmm *vmm) {
    struct qemu *q = qemu_of(vmm);
    qemu_free_ram(vmm);
    qemu_saved_fd_close(q);
    json_decref(q->described);
    qmp_close(q->qmp);
    ledger_close(vmm->ledger, true);
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

#define LOOK_OFTEN (CLOCK_MS / 2)
#define OFTEN 20 /* looks */
#define LOOK_SELDOM (50 * CLOCK_MS)

int qemu_wait_change(struct qemu *q, struct qemu_pace *pace, struct error *err) {
    if (q->changes != pace->seen) {
        *pace = (struct qemu_pace){ .seen = q->changes };
    }
    if (pace->looks++ < OFTEN) {
        pace->interval = LOOK_OFTEN;
    } else {
        pace->interval = pace->interval * 2 < LOOK_SELDOM ? pace->interval * 2 : LOOK_SELDOM;
    }
    return qmp_wait_event(q->qmp, pace->interval, err) < 0 ? -1 : 0;
}

int qemu_close_fd(struct qemu *q, struct error *err) {
    const char *name = q->did.descriptor->name;
    json_t *args = json_pack("{s:s%}", "fdname", name, strnlen(name, sizeof(q->did.descriptor->name)));
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
    .begin = qemu_begin,
    .inspect = qemu_inspect,
    .describe = qemu_describe,
    .cpu_threads = qemu_cpu_threads,
    .match = qemu_match,
    .agree = qemu_agree,
    .adopt = qemu_adopt,
    .choose = qemu_choose,
    .still_movable = qemu_still_movable,
    .unchanged = qemu_unchanged,
    .guest_running = qemu_guest_running,
    .can_move = qemu_can_move,
    .drain = qemu_drain,
    .prepare = qemu_prepare,
    .stop = qemu_stop,
    .filter = qemu_filter,
    .release_device_state = qemu_release_device_state,
    .wait_saved = qemu_wait_saved,
    .stands_still = qemu_stands_still,
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
    if (take_ledger(q, err) < 0) {
        return -1;
    }
    qmp_on_event(q->qmp, event_names, on_event, q);
    qmp_on_wait(q->qmp, beat, q->vmm.ledger);
    return qmp_negotiate(q->qmp, GREETING_TIMEOUT, err);
}

struct vmm *vmm_qemu_open(const char *qmp_path, pid_t pid, struct error *err) {
    struct qemu *q = calloc(1, sizeof(*q));
    if (q == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory");
        return NULL;
    }
    q->vmm = (struct vmm){ .ops = &ops, .pid = pid };
    q->save = (struct qemu_save){ .memory = -1, .out = -1 };
    if (open_connection(q, qmp_path, err) < 0) {
        qemu_close(&q->vmm);
        return NULL;
    }
    return &q->vmm;
}
