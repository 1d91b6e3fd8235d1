/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/events.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

int events_open(struct events *e, const char *path, struct error *err) {
    *e = (struct events){ .fd = -1 };
    if (path == NULL) {
        return 0;
    }
    e->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (e->fd < 0) {
        return error_errno(err, ERROR_USAGE, "cannot write events to %s", path);
    }
    e->open = true;
    return 0;
}

/* One write, so that two sides that share a file do not mix within a line. */
static void write_line(struct events *e, const char *text) {
    struct iovec iov[3] = { { "\n", e->torn }, { (void *)(uintptr_t)text, strlen(text) }, { "\n", 1 } };
    size_t size = iov[0].iov_len + iov[1].iov_len + iov[2].iov_len;
    ssize_t n = writev(e->fd, iov, 3);
    if (n == (ssize_t)size) {
        e->torn = false;
        return;
    }
    int why = n < 0 ? errno : ENOSPC;
    e->torn = n > 0 || e->torn;
    if (!e->complained) {
        e->complained = true;
        log_warning("events are lost: the file takes no more of them: %s", strerror(why));
    }
}

void events_emit(struct events *e, const char *name, json_t *fields) {
    if (e->open) {
        json_t *line = json_pack("{s:s, s:f}", "event", name, "time", (double)clock_wall() / 1e9);
        if (fields != NULL) {
            json_object_update(line, fields);
        }
        CLEANUP_FREE char *text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(16));
        if (text != NULL) {
            write_line(e, text);
        }
        json_decref(line);
    }
    json_decref(fields);
}

void events_close(struct events *e) {
    if (e->open) {
        close(e->fd);
        e->open = false;
    }
}
