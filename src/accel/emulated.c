/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver of an emulated device: a process that listens on a socket and works on what it finds in shared memory
 * (emulated_protocol.h). It stands for a card in tests, and it is as little trusted as one: what it can reach are the
 * input memory, which it cannot write to, and the output memory of its own unit.
 */
#include "accel/emulated.h"

#include "accel/emulated_protocol.h"
#include "base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int emulated_start(struct accel_unit *unit, const char *path, struct error *err) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(address.sun_path)) {
        return error_set(err, ERROR_USAGE, "the path of its socket is too long");
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return error_errno(err, ERROR_SYSTEM, "socket");
    }
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        return error_errno(err, ERROR_SYSTEM, "no emulated device can be reached at %s; start emulated-accel", path);
    }
    unit->fd = take_fd(&fd);
    return 0;
}

/* Does not block. 1; 0: the device has not read what came before; -1. */
static int send_packet(int fd, struct emulated_message *m, const int *fds, size_t count, struct error *err) {
    union {
        char data[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control = { 0 };
    struct iovec iov = { m, sizeof(*m) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    m->magic = EMULATED_MAGIC;
    if (count > 0) {
        msg.msg_control = control.data;
        msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    }
    if (sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
        return 1;
    }
    if (errno == EAGAIN || errno == EINTR) {
        return 0;
    }
    return error_errno(err, ERROR_SYSTEM, "sending to it");
}

static int welcome(struct accel_unit *unit, const struct emulated_message *m, struct error *err) {
    unsigned instances = m->instance < unit->instances ? m->instance : unit->instances;
    if (unit_ready(unit, instances, m->depth, false, err) != 0) {
        return -1;
    }
    const struct accel_memory *in = &unit->ground->input;
    const int fds[2] = { in->fd, unit->output.fd };
    struct emulated_message attach = {
        .kind = EMULATED_ATTACH, .instance = (uint16_t)instances, .size = in->size, .out_size = unit->output.size
    };
    int rc = send_packet(unit->fd, &attach, fds, 2, err);
    return rc == 0 ? error_set(err, ERROR_SYSTEM, "it does not read") : rc < 0 ? -1 : 0;
}

static int read_packet(const void *packet, size_t size, struct emulated_message *m, struct error *err) {
    if (size == 0) {
        return error_set(err, ERROR_SYSTEM, "the connection is lost");
    }
    if (size != sizeof(*m)) {
        return error_set(err, ERROR_SYSTEM, "it sent %zu bytes instead of a message", size);
    }
    memcpy(m, packet, sizeof(*m));
    return m->magic == EMULATED_MAGIC ? 0 : error_set(err, ERROR_SYSTEM, "it sent something else than a message");
}

static enum accel_status status_of(uint32_t status) {
    return status == EMULATED_OK ? ACCEL_OK : status == EMULATED_TOO_BIG ? ACCEL_TOO_BIG : ACCEL_FAILED;
}

static int result_of(const struct emulated_message *m, struct accel_result *r, struct error *err) {
    if (m->kind != EMULATED_COMPLETE || m->status > EMULATED_FAILED) {
        return error_set(err, ERROR_SYSTEM, "it sent message %u, status %" PRIu32, m->kind, m->status);
    }
    *r = (struct accel_result){
        .slot = m->slot, .serial = m->serial, .status = status_of(m->status), .codec = m->codec, .size = m->size
    };
    return 0;
}

int emulated_parse_result(const void *packet, size_t size, struct accel_result *result, struct error *err) {
    struct emulated_message m;
    return read_packet(packet, size, &m, err) == 0 ? result_of(&m, result, err) : -1;
}

int emulated_hear(struct accel_unit *unit, const void *packet, size_t size, struct error *err) {
    struct emulated_message m;
    struct accel_result r;
    if (read_packet(packet, size, &m, err) != 0) {
        return -1;
    }
    if (!unit->ready) {
        return m.kind == EMULATED_WELCOME ? welcome(unit, &m, err)
                                          : error_set(err, ERROR_SYSTEM, "it began with message %u", m.kind);
    }
    return result_of(&m, &r, err) == 0 ? unit_result(unit, &r, err) : -1;
}

static int emulated_reap(struct accel_unit *unit, struct error *err) {
    /* Bounded, so that one device that talks without end cannot keep the others waiting. */
    for (unsigned i = 0; i < 256; i++) {
        char packet[2 * sizeof(struct emulated_message)];
        ssize_t n = recv(unit->fd, packet, sizeof(packet), MSG_DONTWAIT);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : error_errno(err, ERROR_SYSTEM, "receiving from it");
        }
        if (emulated_hear(unit, packet, (size_t)n, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int emulated_submit(struct accel_unit *unit, const struct accel_slot *slot, struct error *err) {
    const struct accel_job *job = slot->job;
    struct emulated_message m = {
        .kind = EMULATED_SUBMIT,
        .instance = (uint16_t)slot->instance,
        .slot = slot->index,
        .serial = slot->serial,
        .operation = slot->work == ACCEL_DECOMPRESS ? EMULATED_INFLATE : EMULATED_DEFLATE,
        .level = (uint16_t)job->level,
        .offset = (uint64_t)(job->in - unit->ground->input.base),
        .size = job->size,
        .out_offset = slot->offset,
        .out_size = slot->capacity,
    };
    return send_packet(unit->fd, &m, NULL, 0, err);
}

static void emulated_retire(struct accel_unit *unit) {
    close(unit->fd);
    unit->fd = -1;
}

static bool emulated_finish(struct accel_unit *unit, int64_t until) {
    (void)unit;
    (void)until;
    return true; /* the process has mappings of its own: ours can go */
}

const struct accel_ops accel_emulated = {
    .kind = "emulated",
    .has_path = true,
    .start = emulated_start,
    .submit = emulated_submit,
    .reap = emulated_reap,
    .retire = emulated_retire,
    .finish = emulated_finish,
};
