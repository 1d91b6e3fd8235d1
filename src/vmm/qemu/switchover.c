/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's half of the hand-over.
 *
 *   prepare()   capabilities and parameters
 *   stop()      migrate → setup → active → [guest stops] → pre-switchover      RAM that QEMU owns itself, such as video
 *                                                                              RAM, is sent meanwhile
 *   release()   migrate-continue → device → completed                          the rest of it and the device state
 *
 * VMM_WAY_SAVE goes another way (save.c). Whatever breaks on the way, undo.c looks at where QEMU is and goes back from
 * there.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/qemu/internal.h"
#include "vmm/qemu/stream.h"

#include <string.h>

/* After this long before the stop, QEMU may have any amount of its own RAM left when it stops the guest. */
#define PATIENCE (2 * CLOCK_S)
#define UNLIMITED_DOWNTIME INT64_C(2000000) /* ms: QEMU's largest */

int qemu_prepare(struct vmm *vmm, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    struct query_state state;
    if (vmm->way == VMM_WAY_SAVE) {
        return qemu_can_move(vmm, err); /* no migration of QEMU's: none of its settings matter */
    }
    if (query_state(q->qmp, &state, err) < 0) {
        return -1;
    }
    if (!qemu_has_done(q)) {
        q->did.migration->guest_ran = state.running;
    }
    return qemu_settings_apply(q, err);
}

static int did_not_stop(const struct query_migration *m, struct error *err) {
    if (m->error[0] != '\0') {
        return error_set(err, ERROR_VMM, "QEMU's migration of the device state %s: %s", m->name, m->error);
    }
    return error_set(err, ERROR_VMM, "QEMU's migration of the device state is \"%s\" and not in pre-switchover",
                     m->name);
}

/* Waits until the guest stands still with its device state held back. */
static int wait_pre_switchover(struct qemu *q, int64_t limit, struct query_migration *m, struct error *err) {
    int64_t begin = clock_now();
    struct qemu_pace pace = { .seen = q->changes };
    bool widened = false;
    for (;;) {
        if (query_migration(q->qmp, m, err) < 0) {
            return -1;
        }
        qemu_follow_stop(q, limit);
        if (m->status == VMM_PRE_SWITCHOVER) {
            return 0;
        }
        int64_t waited = clock_now() - begin;
        if (m->status == VMM_FAILED || m->status == VMM_CANCELLED || m->status == VMM_COMPLETED ||
            waited > QMP_TIMEOUT) {
            return did_not_stop(m, err);
        }
        if (!widened && waited > PATIENCE) {
            log_info("the guest writes QEMU's own RAM (video?) faster than it is sent: stopping it anyway");
            if (qemu_set_downtime_limit(q, UNLIMITED_DOWNTIME, err) < 0) {
                return -1;
            }
            widened = true;
        }
        if (qemu_wait_change(q, &pace, err) < 0) {
            return -1;
        }
    }
}

/* QEMU counts what it transfers itself. All back ends are skipped or none is: they are all of one kind. */
static int check_ram_is_skipped(const struct qemu *q, const struct query_migration *m, struct error *err) {
    uint64_t ours = 0;
    for (size_t i = 0; i < q->vmm.ram_count; i++) {
        ours += q->vmm.ram[i].skipped ? q->vmm.ram[i].size : 0;
    }
    /* Where QEMU does not list its blocks: its own RAM is less than the guest's. */
    uint64_t own = q->all_ram > ours ? q->all_ram - ours + ours / 2 : ours - 1; /* ROMs may have grown since */
    if (!m->has_ram || ours == 0 || m->ram_total < 0 || (uint64_t)m->ram_total <= own) {
        return 0;
    }
    return error_set(err, ERROR_REFUSED,
                     "this QEMU would send %lld MiB of RAM itself: its x-ignore-shared does not skip the guest's RAM "
                     "(%llu MiB)",
                     (long long)(m->ram_total >> 20), (unsigned long long)(ours >> 20));
}

static int begin_migration(struct qemu *q, int fd, struct error *err) {
    struct query_state state;
    q->by_itself[0] = '\0';
    if (qemu_can_move(&q->vmm, err) < 0 || query_state(q->qmp, &state, err) < 0) {
        return -1;
    }
    q->did.migration->guest_ran = state.running; /* somebody may have stopped it or let it run since prepare() */
    qemu_record_descriptor(q);
    if (qmp_getfd(q->qmp, fd, DEVICE_FD_NAME, err) < 0) {
        return -1;
    }
    q->stopped_at = 0;
    q->resumed = false;
    ledger_set(q->did.migration, true);
    ledger_stand(q->vmm.ledger, LEDGER_STOPPED, true);
    return qmp_execute(q->qmp, "migrate", json_pack("{s:s}", "uri", "fd:" DEVICE_FD_NAME), NULL, QMP_TIMEOUT, err);
}

int qemu_stop(struct vmm *vmm, int fd, int64_t *stopped_at, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    struct query_migration m;
    if (vmm->way == VMM_WAY_SAVE) {
        return qemu_save_stop(q, fd, stopped_at, err);
    }
    int64_t limit = qmp_deadline(q->qmp) == INT64_MAX ? INT64_MAX : qmp_deadline(q->qmp) - clock_now();
    if (begin_migration(q, fd, err) < 0 || wait_pre_switchover(q, limit, &m, err) < 0 ||
        qemu_check_was_stopped(q, &q->did.migration->guest_ran, err) < 0) {
        return -1;
    }
    /* a guest that was paused all along has no STOP event */
    *stopped_at = q->stopped_at != 0 ? q->stopped_at : clock_now();
    if (check_ram_is_skipped(q, &m, err) < 0) {
        struct error second = { 0 };
        if (qemu_undo(vmm, true, &second) < 0) {
            log_warning("%s", second.desc);
        }
        return -1;
    }
    return 0;
}

/* The stream does not say how large a page is where the CPU's kind fixes it: on x86 it is 4 KiB. */
int qemu_filter(struct vmm *vmm, const struct vmm_carried *carried, struct vmm_filter **filter, struct error *err) {
    CLEANUP_JSON json_t *target = NULL;
    char arch[32];
    *filter = NULL;
    if (vmm->way == VMM_WAY_SAVE) {
        return 0; /* nothing that we carry is in it */
    }
    if (qmp_execute(qemu_of(vmm)->qmp, "query-target", NULL, &target, QMP_TIMEOUT, err) < 0) {
        return -1;
    }
    if (!query_is_x86(target, arch, sizeof(arch))) {
        return 0;
    }
    *filter = qemu_stream_open(carried, err);
    return *filter != NULL ? 0 : -1;
}

int qemu_release_device_state(struct vmm *vmm, struct error *err) {
    if (vmm->way == VMM_WAY_SAVE) {
        return qemu_save(qemu_of(vmm), err);
    }
    json_t *args = json_pack("{s:s}", "state", "pre-switchover");
    return qmp_execute(qemu_of(vmm)->qmp, "migrate-continue", args, NULL, QMP_TIMEOUT, err);
}

int qemu_wait_saved(struct vmm *vmm, int64_t timeout_ns, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    if (vmm->way == VMM_WAY_SAVE) {
        return qemu_save_write(q, timeout_ns, err);
    }
    int64_t deadline = clock_now() + timeout_ns;
    struct qemu_pace pace = { .seen = q->changes };
    for (;;) {
        struct query_migration m;
        if (query_migration(q->qmp, &m, err) < 0) {
            return -1;
        }
        if (m.status == VMM_COMPLETED) {
            return 0;
        }
        if (!query_migration_live(&m)) {
            return error_set(err, ERROR_VMM, "QEMU did not save the device state (%s): %s", m.name,
                             m.error[0] ? m.error : "no reason given");
        }
        if (clock_now() >= deadline) {
            return error_set(err, ERROR_VMM, "QEMU did not save the device state in time (it is in \"%s\")", m.name);
        }
        if (qemu_wait_change(q, &pace, err) < 0) {
            return -1;
        }
    }
}

int qemu_stands_still(struct vmm *vmm, struct error *err) {
    struct qemu *q = qemu_of(vmm);
    if (vmm->way == VMM_WAY_SAVE) {
        return qemu_save_check_still(q, err);
    }
    return 0; /* behind a migration `cont` is refused until it is over, and then it is for whoever sends it */
}
