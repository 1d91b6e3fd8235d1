/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What xen-save-devices-state writes into. It wants a file that is opened for writing only, of which the length can be
 * set: memory of ours, opened a second time. QEMU gets it in a set of descriptors of a number that QEMU gives, for in a
 * set that was there before it might take somebody else's file. The set is marked as ours, so that whoever tidies up
 * finds it without knowing its number.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "vmm/qemu/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void close_fd(int *fd) {
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void qemu_saved_fd_close(struct qemu *q) {
    close_fd(&q->save.memory);
    close_fd(&q->save.out);
}

/* In the ledger, before it is given. */
void qemu_saved_fd_mark(struct qemu *q) {
    _Static_assert(sizeof(DEVICE_FD_NAME) <= sizeof(q->did.fdset->mark), "it is not cut");
    memcpy(q->did.fdset->mark, DEVICE_FD_NAME, sizeof(DEVICE_FD_NAME));
    ledger_set(q->did.fdset, true);
}

int qemu_saved_fd_give(struct qemu *q, int64_t *id, struct error *err) {
    char path[64];
    q->save.memory = memfd_create(DEVICE_FD_NAME, MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", q->save.memory);
    CLEANUP_CLOSE int writable = q->save.memory < 0 ? -1 : open(path, O_WRONLY | O_CLOEXEC);
    if (writable < 0) {
        return error_errno(err, ERROR_SYSTEM, "no memory to save the device state into");
    }
    qemu_saved_fd_mark(q);
    return qmp_add_fd(q->qmp, writable, DEVICE_FD_NAME, id, err);
}

/* A refusal to take the set back costs nothing: undo() and the end of the last monitor do it too. */
int qemu_saved_fd_take_back(struct qemu *q, int64_t id, struct error *err) {
    struct error local = { 0 };
    json_t *args = json_pack("{s:I}", "fdset-id", (json_int_t)id);
    if (qmp_execute(q->qmp, "remove-fd", args, NULL, QMP_TIMEOUT, &local) == 0) {
        ledger_set(q->did.fdset, false);
        return 0;
    }
    if (qmp_refusal(q->qmp)[0] == '\0') {
        return error_set(err, local.class, "%s", local.desc);
    }
    log_debug("%s; later then", local.desc);
    return 0;
}

static bool is_marked(const json_t *set, const struct did_fdset *did) {
    size_t i;
    json_t *fd;
    json_array_foreach(json_object_get(set, "fds"), i, fd) {
        const char *mark = json_string_value(json_object_get(fd, "opaque"));
        if (mark != NULL && strncmp(mark, did->mark, sizeof(did->mark)) == 0) {
            return true;
        }
    }
    return false;
}

int qemu_saved_fd_tidy(struct qemu *q, struct error *err) {
    CLEANUP_JSON json_t *sets = NULL;
    size_t i;
    json_t *set;
    if (query_if_known(q->qmp, "query-fdsets", NULL, &sets, err) < 0) {
        return -1;
    }
    json_array_foreach(sets, i, set) {
        const json_t *id = json_object_get(set, "fdset-id");
        json_t *args = json_pack("{s:I}", "fdset-id", json_integer_value(id));
        bool ours = json_is_integer(id) && is_marked(set, q->did.fdset);
        if (!ours) {
            json_decref(args);
        } else if (qmp_execute(q->qmp, "remove-fd", args, NULL, QMP_TIMEOUT, err) < 0) {
            return -1;
        }
    }
    ledger_set(q->did.fdset, false);
    return 0;
}
