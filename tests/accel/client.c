/* SPDX-License-Identifier: Apache-2.0 */
/* Connections and their messages. The card believes its clients no more than they believe it. */
#include "card.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void say(struct card *card, struct client *c, struct emulated_message *m) {
    m->magic = EMULATED_MAGIC;
    if (c->fd >= 0 && send(c->fd, m, sizeof(*m), MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof(*m)) {
        client_drop(card, c);
    }
}

void client_accept(struct card *card) {
    int fd = accept4(card->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct client *c = fd >= 0 ? calloc(1, sizeof(*c)) : NULL;
    if (c == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    struct ucred peer = { 0 };
    socklen_t size = sizeof(peer);
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    c->fd = fd;
    c->pid = peer.pid;
    c->pending_tail = &c->pending;
    c->next = card->clients;
    card->clients = c;
    struct emulated_message hello = { .kind = EMULATED_WELCOME,
                                      .instance = (uint16_t)card->options.instances,
                                      .depth = card->options.depth };
    say(card, c, &hello);
}

void client_drop(struct card *card, struct client *c) {
    (void)card;
    if (c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    }
    while (c->pending != NULL) {
        struct job *job = c->pending;
        c->pending = job->next;
        free(job);
    }
    c->pending_tail = &c->pending;
}

static void unmap(struct window *w) {
    if (w->base != NULL) {
        munmap(w->base, w->size);
    }
}

void clients_sweep(struct card *card) {
    for (struct client **at = &card->clients; *at != NULL;) {
        struct client *c = *at;
        if (c->fd >= 0 || c->busy > 0) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        if (c->instances > 0) {
            stats_keep(card, c);
        }
        unmap(&c->in);
        unmap(&c->out);
        free(c);
    }
}

/* NULL unless it is as large as it is said to be and cannot become smaller. */
static uint8_t *map(int fd, uint64_t size, int protection) {
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    if (size == 0 || fstat(fd, &st) != 0 || (uint64_t)st.st_size < size || seals < 0 || !(seals & F_SEAL_SHRINK)) {
        return NULL;
    }
    void *base = mmap(NULL, size, protection, MAP_SHARED | MAP_NORESERVE, fd, 0);
    return base != MAP_FAILED ? base : NULL;
}

static bool attach(struct client *c, const struct emulated_message *m, const int *fds) {
    if (c->instances > 0 || m->instance == 0 || m->instance > MAX_INSTANCES || fds[0] < 0 || fds[1] < 0) {
        return false;
    }
    /* What a card can write to it may one day write to by mistake: a driver that lets it is refused. */
    uint8_t *writable = map(fds[0], m->size, PROT_READ | PROT_WRITE);
    if (writable != NULL) {
        munmap(writable, m->size);
        return false;
    }
    c->in = (struct window){ map(fds[0], m->size, PROT_READ), m->size };
    c->out = (struct window){ map(fds[1], m->out_size, PROT_READ | PROT_WRITE), m->out_size };
    c->instances = m->instance;
    return c->in.base != NULL && c->out.base != NULL;
}

static bool inside(uint64_t offset, uint64_t size, const struct window *w) {
    return size > 0 && size <= w->size && offset <= w->size - size;
}

static bool all_idle(const struct card *card) {
    for (const struct client *c = card->clients; c != NULL; c = c->next) {
        if (c->pending != NULL) {
            return false;
        }
    }
    return card->busy_workers == 0;
}

/* How much a client that was away may catch up on the others: a few jobs, so that a client with a short queue, which is
 * without a job for a moment after each answer, does not lose by it; not what it could have had since it came. */
#define ALLOWANCE (4u << 20)

static bool submit(struct card *card, struct client *c, const struct emulated_message *m) {
    if (m->operation >= EMULATED_OPERATIONS || m->instance >= c->instances ||
        c->in_flight[m->instance] >= card->options.depth || !inside(m->offset, m->size, &c->in) ||
        !inside(m->out_offset, m->out_size, &c->out)) {
        return false;
    }
    struct job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        return false;
    }
    int64_t now = clock_now();
    if (all_idle(card) && card->busy_until < now) {
        card->busy_until = now;
    }
    if (c->pending == NULL && c->served + ALLOWANCE < card->served) {
        c->served = card->served - ALLOWANCE;
    }
    job->client = c;
    job->request = *m;
    job->number = card->next_job++;
    *c->pending_tail = job;
    c->pending_tail = &job->next;
    c->in_flight[m->instance]++;
    pthread_cond_signal(&card->work);
    return true;
}

static bool handle(struct card *card, struct client *c, const struct emulated_message *m, const int *fds) {
    if (m->magic != EMULATED_MAGIC) {
        return false;
    }
    switch (m->kind) {
    case EMULATED_ATTACH:
        return attach(c, m, fds);
    case EMULATED_SUBMIT:
        return submit(card, c, m);
    case EMULATED_FAULT:
        return m->status < EMULATED_FAULTS && m->size > 0 &&
               fault_add(card->options.fault, (struct fault){ .kind = (enum emulated_fault)m->status,
                                                              .from = card->next_job + m->offset,
                                                              .count = m->size });
    default:
        return false;
    }
}

/* The descriptors that came with a packet, -1 for what is not there. More than two never get here: the kernel drops
 * what does not fit. */
static void take_fds(struct msghdr *msg, int *fds) {
    fds[0] = fds[1] = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            size_t size = c->cmsg_len - CMSG_LEN(0);
            memcpy(fds, CMSG_DATA(c), size < 2 * sizeof(int) ? size : 2 * sizeof(int));
        }
    }
}

void client_hear(struct card *card, struct client *c) {
    while (c->fd >= 0) {
        struct emulated_message m;
        union {
            char data[CMSG_SPACE(2 * sizeof(int))];
            struct cmsghdr align;
        } control;
        struct iovec iov = { &m, sizeof(m) };
        struct msghdr msg = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.data, .msg_controllen = sizeof(control.data)
        };
        ssize_t n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (n <= 0) {
            client_drop(card, c);
            return;
        }
        int fds[2];
        take_fds(&msg, fds);
        bool fine = n == (ssize_t)sizeof(m) && handle(card, c, &m, fds);
        for (unsigned i = 0; i < 2; i++) {
            if (fds[i] >= 0) {
                close(fds[i]);
            }
        }
        if (!fine) {
            card->violations++;
            fprintf(stderr, "emulated-accel: client %d broke the rules\n", c->pid);
            client_drop(card, c);
        }
    }
}

void client_answer(struct card *card, struct job *job) {
    struct client *c = job->client;
    struct emulated_message *m = &job->answer;
    c->busy--;
    c->in_flight[job->request.instance]--;
    if (m->status == EMULATED_OK) {
        c->jobs++;
        c->inflated += job->request.operation == EMULATED_INFLATE;
        c->bytes_in += job->request.size;
        c->bytes_out += m->size;
    }
    say(card, c, m);
    free(job);
}
