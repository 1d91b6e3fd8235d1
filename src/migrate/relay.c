/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define RELAY_BUFFER (256u << 10)

static int write_all(void *opaque, const uint8_t *data, size_t size, struct error *err) {
    struct relay *r = opaque;
    while (size > 0) {
        ssize_t n = send(r->to, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return error_errno(err, ERROR_LINK, "the device state could not be passed on");
        }
        data += n;
        size -= (size_t)n;
        atomic_fetch_add(&r->bytes, (uint64_t)n);
    }
    return 0;
}

static int carry(struct relay *r, uint8_t *buffer, struct error *err) {
    struct vmm_filter *filter = r->filter;
    const struct vmm_sink sink = { .take = write_all, .opaque = r };
    for (;;) {
        ssize_t n = recv(r->from, buffer, RELAY_BUFFER, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return error_errno(err, ERROR_LINK, "the device state broke off");
        }
        if (n == 0) {
            return filter != NULL ? filter->ops->finish(filter, &sink, err) : 0;
        }
        if ((filter != NULL ? filter->ops->feed(filter, buffer, (size_t)n, &sink, err)
                            : write_all(r, buffer, (size_t)n, err)) < 0) {
            return -1;
        }
    }
}

static void *run(void *opaque) {
    struct relay *r = opaque;
    pthread_setname_np(pthread_self(), "relay");
    uint8_t *buffer = malloc(RELAY_BUFFER);
    if (buffer == NULL) {
        error_set(&r->failure, ERROR_SYSTEM, "no memory for the device state");
    } else {
        carry(r, buffer, &r->failure);
    }
    free(buffer);
    atomic_store(&r->ended, true);
    shutdown(r->to, SHUT_WR);
    if (error_is_set(&r->failure)) {
        shutdown(r->from, SHUT_RDWR); /* else whoever writes there waits for a reader that will not come back */
    }
    eventfd_write(r->event_fd, 1);
    return NULL;
}

static void close_filter(struct vmm_filter *f) {
    if (f != NULL) {
        f->ops->close(f);
    }
}

int relay_start(struct relay *r, int from, int to, struct vmm_filter *filter, struct error *err) {
    *r = (struct relay){ .from = from, .to = to, .filter = filter, .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    if (r->event_fd < 0 || pthread_create(&r->thread, NULL, run, r) != 0) {
        error_errno(err, ERROR_SYSTEM, "cannot start the relay of the device state");
        close(from);
        close(to);
        close_filter(filter);
        r->filter = NULL;
        if (r->event_fd >= 0) {
            close(r->event_fd);
        }
        return -1;
    }
    r->started = true;
    return 0;
}

int relay_open(struct relay *r, enum relay_way way, int wire, struct vmm_filter *filter, int *vmm_end,
               struct error *err) {
    int ends[2] = { -1, -1 }, copy = -1;
    /* A copy of the wire: with its own the link breaks the relay off when it breaks itself. */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 || (copy = fcntl(wire, F_DUPFD_CLOEXEC, 0)) < 0) {
        error_errno(err, ERROR_SYSTEM, "cannot connect the device state");
        if (ends[0] >= 0) {
            close(ends[0]);
            close(ends[1]);
        }
        close_filter(filter);
        return -1;
    }
    *vmm_end = ends[1];
    return way == RELAY_TO_WIRE ? relay_start(r, ends[0], copy, filter, err)
                                : relay_start(r, copy, ends[0], filter, err);
}

void relay_stop(struct relay *r) {
    if (!r->started) {
        return;
    }
    shutdown(r->from, SHUT_RDWR);
    shutdown(r->to, SHUT_RDWR);
    pthread_join(r->thread, NULL);
    r->started = false;
    close(r->from);
    close(r->to);
    close_filter(r->filter);
    r->filter = NULL;
    close(r->event_fd);
}

bool relay_broke(struct relay *r) {
    return atomic_load(&r->ended) && error_is_set(&r->failure);
}

int relay_result(struct relay *r, struct error *err) {
    if (!atomic_load(&r->ended)) {
        return error_set(err, ERROR_LINK, "the device state did not come to its end");
    }
    if (error_is_set(&r->failure)) {
        return error_set(err, r->failure.class, "%s", r->failure.desc);
    }
    return 0;
}
