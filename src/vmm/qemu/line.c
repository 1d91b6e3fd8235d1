/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/line.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE ((size_t)64 << 10)
#define LINE_LIMIT ((size_t)1 << 20)
#define TICK (500 * CLOCK_MS)

void line_from_fd(struct line_socket *s, int fd) {
    *s = (struct line_socket){ .fd = fd, .limit = LINE_LIMIT };
}

void line_close(struct line_socket *s) {
    if (s->fd >= 0) {
        close(s->fd);
    }
    free(s->buffer);
    *s = (struct line_socket){ .fd = -1, .ended = true };
}

pid_t line_peer(const struct line_socket *s) {
    struct ucred peer = { 0 };
    socklen_t size = sizeof(peer);
    if (getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.pid < 0) {
        return 0;
    }
    return peer.pid;
}

static int ended(struct line_socket *s, struct error *err) {
    s->ended = true;
    return error_set(err, ERROR_VMM, "QEMU went away (its monitor closed the connection)");
}

/* Fills poll entries for what is watched; returns how many. */
static nfds_t watch_fds(const struct line_socket *s, struct pollfd *p) {
    nfds_t n = 0;
    for (; !s->shielded && n < s->watch.fd_count; n++) {
        p[n] = (struct pollfd){ .fd = s->watch.fds[n], .events = POLLIN };
    }
    return n;
}

static bool any_ready(const struct pollfd *p, nfds_t count) {
    for (nfds_t i = 0; i < count; i++) {
        if (p[i].revents != 0) {
            return true;
        }
    }
    return false;
}

bool line_interrupted(const struct line_socket *s) {
    struct pollfd p[VMM_WATCH_FDS];
    nfds_t count = watch_fds(s, p);
    return count > 0 && poll(p, count, 0) > 0;
}

/* Before each sleep: the owner shows that it is alive, and may have had enough. */
static int tick(struct line_socket *s, struct error *err) {
    struct error ignored = { 0 };
    if (s->on_wait != NULL) {
        s->on_wait(s->opaque);
    }
    if (s->watch.tick == NULL) {
        return 0;
    }
    s->called_off = s->watch.tick(s->watch.opaque, s->shielded ? &ignored : err) < 0 && !s->shielded;
    return s->called_off ? -1 : 0;
}

/* Waits until the socket is ready: 1, or 0 when the deadline has passed. Errors show in the next send or recv. What the
 * socket has comes before what is watched: an answer that is there is taken. */
static int wait_ready(struct line_socket *s, short events, int64_t deadline, struct error *err) {
    for (;;) {
        struct pollfd p[1 + VMM_WATCH_FDS] = { { .fd = s->fd, .events = events } };
        int64_t left = deadline - clock_now();
        int64_t sleep = left <= 0 ? 0 : left < TICK ? left : TICK;
        nfds_t count = sleep > 0 ? watch_fds(s, p + 1) : 0;
        if (sleep > 0 && tick(s, err) < 0) {
            return -1;
        }
        struct timespec timeout = { .tv_sec = sleep / CLOCK_S, .tv_nsec = sleep % CLOCK_S };
        int n = ppoll(p, 1 + count, &timeout, NULL);
        if (n < 0 && errno != EINTR) {
            return error_errno(err, ERROR_SYSTEM, "poll");
        }
        if (n > 0 && p[0].revents != 0) {
            return 1;
        }
        if (n > 0 && any_ready(p + 1, count)) {
            return error_set(err, ERROR_CANCELLED, "called off while QEMU was waited for");
        }
        if (clock_now() >= deadline) {
            return 0;
        }
    }
}

/* Makes room for one more read: moves what is unread to the front, then grows. */
static int make_room(struct line_socket *s, struct error *err) {
    if (s->start > 0) {
        memmove(s->buffer, s->buffer + s->start, s->have - s->start);
        s->have -= s->start;
        s->searched -= s->start;
        s->start = 0;
    }
    if (s->have > s->limit) {
        s->start = s->have = s->searched = 0;
        s->skipping = true; /* to its end */
        return error_set(err, ERROR_VMM, "QEMU's monitor sent a line longer than %zu KiB", s->limit >> 10);
    }
    if (s->capacity - s->have >= READ_SIZE) {
        return 0;
    }
    size_t capacity = (s->capacity + READ_SIZE) * 2;
    char *buffer = realloc(s->buffer, capacity);
    if (buffer == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for an answer of QEMU");
    }
    s->buffer = buffer;
    s->capacity = capacity;
    return 0;
}

/* Takes a complete line out of what was read, behind the rest of one that was too long. */
static bool take_line(struct line_socket *s, char **line, size_t *length) {
    while (s->have != s->searched) { /* not so while there is no buffer yet */
        char *end = memchr(s->buffer + s->searched, '\n', s->have - s->searched);
        if (end == NULL) {
            s->searched = s->have;
            s->start = s->skipping ? s->have : s->start;
            return false;
        }
        *line = s->buffer + s->start;
        s->start = s->searched = (size_t)(end - s->buffer) + 1;
        if (s->skipping) {
            s->skipping = false;
            continue;
        }
        while (end > *line && end[-1] == '\r') {
            end--;
        }
        *end = '\0';
        *length = (size_t)(end - *line);
        return true;
    }
    return false;
}

/* Reads once. 1: something came; 0: nothing until the deadline. */
static int read_some(struct line_socket *s, int64_t deadline, struct error *err) {
    if (make_room(s, err) < 0) {
        return -1;
    }
    int ready = wait_ready(s, POLLIN, deadline, err);
    if (ready <= 0) {
        return ready;
    }
    ssize_t n = recv(s->fd, s->buffer + s->have, READ_SIZE, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 1;
    }
    if (n == 0 || (n < 0 && errno == ECONNRESET)) {
        return ended(s, err);
    }
    if (n < 0) {
        s->ended = true;
        return error_errno(err, ERROR_VMM, "cannot read from QEMU's monitor");
    }
    s->have += (size_t)n;
    return 1;
}

int line_read(struct line_socket *s, char **line, size_t *length, int64_t deadline, struct error *err) {
    bool late = false;
    while (!take_line(s, line, length)) {
        if (s->ended) {
            return ended(s, err);
        }
        if (late) {
            return 0; /* a peer that never stops talking does not keep us beyond the deadline either */
        }
        int n = read_some(s, deadline, err);
        if (n <= 0) {
            return n;
        }
        late = deadline != 0 && clock_now() >= deadline;
    }
    return 1;
}

/* The peer has closed the connection: what it said before may tell why. Returns -1 with the error. */
static int read_last_words(struct line_socket *s, struct error *err) {
    struct error ignored = { 0 };
    while (s->have <= s->limit && !s->ended && read_some(s, 0, &ignored) > 0) {
    }
    return ended(s, err);
}

static ssize_t send_some(int fd, const void *data, size_t size, int pass_fd) {
    struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = size };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    if (pass_fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &pass_fd, sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int line_write(struct line_socket *s, const void *data, size_t size, int pass_fd, int64_t deadline, struct error *err) {
    const char *p = data;
    size_t done = 0;
    if (s->ended) {
        return ended(s, err);
    }
    while (done < size) {
        ssize_t n = send_some(s->fd, p + done, size - done, done == 0 ? pass_fd : -1);
        if (n > 0) {
            done += (size_t)n;
            continue;
        }
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            return read_last_words(s, err);
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            s->half_written = s->half_written || done > 0;
            return error_errno(err, ERROR_VMM, "cannot write to QEMU's monitor");
        }
        int ready = wait_ready(s, POLLOUT, deadline, err);
        if (ready <= 0) {
            s->half_written = s->half_written || done > 0;
            return ready < 0 ? -1 : error_set(err, ERROR_VMM, "QEMU does not read from its monitor: is it hung?");
        }
    }
    return 0;
}

void line_forget(struct line_socket *s) {
    s->start = s->have = s->searched = 0;
    s->skipping = false;
}
