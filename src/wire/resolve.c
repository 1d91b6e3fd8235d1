/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/resolve.h"

#include "base/clock.h"
#include "base/fault.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Belongs to the one who asks and to the thread: the last of them frees it. */
struct resolve {
    struct address address;
    int done_fd; /* eventfd */
    int result;  /* this and the list are the thread's until `done` */
    struct addrinfo *list;
    _Atomic int done;
    _Atomic int owners;
};

static void let_go(struct resolve *r) {
    if (atomic_fetch_sub(&r->owners, 1) == 1) {
        if (r->list != NULL) {
            freeaddrinfo(r->list);
        }
        close(r->done_fd);
        free(r);
    }
}

static void look_up(struct resolve *r) {
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    clock_sleep(fault_value("slow-name", NULL, 0) * CLOCK_MS);
    r->result = getaddrinfo(r->address.host, r->address.port, &hints, &r->list);
    atomic_store(&r->done, 1);
    eventfd_write(r->done_fd, 1);
}

static void *run(void *opaque) {
    look_up(opaque);
    let_go(opaque);
    return NULL;
}

/* Signals are the main thread's. */
static int start_thread(struct resolve *r) {
    sigset_t all, before;
    pthread_t thread;
    pthread_attr_t attributes;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, &attributes, run, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return rc;
}

struct resolve *resolve_begin(const struct address *a, struct error *err) {
    struct resolve *r = calloc(1, sizeof(*r));
    int fd = r != NULL ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (fd < 0) {
        error_errno(err, ERROR_SYSTEM, "cannot look up %s", a->host);
        free(r);
        return NULL;
    }
    r->address = *a;
    r->done_fd = fd;
    atomic_init(&r->owners, 2);
    if (start_thread(r) != 0) { /* no thread to be had: then it takes as long as it takes */
        look_up(r);
        let_go(r);
    }
    return r;
}

int resolve_poll_fd(const struct resolve *r) {
    return r->done_fd;
}

int resolve_result(const struct resolve *r, const struct addrinfo **list) {
    if (!atomic_load(&r->done)) { /* the descriptor orders nothing between the threads, this does */
        *list = NULL;
        return EAI_AGAIN;
    }
    *list = r->list;
    return r->result;
}

void resolve_end(struct resolve *r) {
    if (r != NULL) {
        let_go(r);
    }
}
