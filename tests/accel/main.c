/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: emulated-accel --socket PATH [--rate BYTES/S] [--latency US] [--depth N] [--instances N] [--threads N]
 *                       [--fault KIND@JOB[:COUNT]]... [--stats FILE]
 *
 * Says "ready" on stdout when it listens. Ends when stdin is closed, and on SIGTERM and SIGINT.
 */
#include "card.h"

#include "base/clock.h"

#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_CLIENTS 256

static bool number(const char *text, uint64_t low, uint64_t high, uint64_t *to) {
    char *end;
    *to = strtoull(text, &end, 10);
    return end != text && *end == '\0' && *to >= low && *to <= high;
}

static bool small(const char *text, unsigned high, unsigned *to) {
    uint64_t value;
    bool fine = number(text, 1, high, &value);
    *to = (unsigned)value;
    return fine;
}

static bool take_option(struct options *o, int c) {
    uint64_t us;
    switch (c) {
    case 's':
        o->socket = optarg;
        return true;
    case 'S':
        o->stats = optarg;
        return true;
    case 'r':
        return number(optarg, 0, UINT64_C(1) << 50, &o->rate);
    case 'l':
        if (!number(optarg, 0, 3600u * 1000 * 1000, &us)) {
            return false;
        }
        o->latency_ns = (int64_t)us * 1000;
        return true;
    case 'd':
        return small(optarg, 1024, &o->depth);
    case 'i':
        return small(optarg, MAX_INSTANCES, &o->instances);
    case 't':
        return small(optarg, MAX_WORKERS, &o->threads);
    case 'f':
        return fault_parse(o->fault, optarg);
    default:
        return false;
    }
}

static bool parse(struct options *o, int argc, char **argv) {
    static const struct option names[] = {
        { "socket", required_argument, NULL, 's' },
        { "rate", required_argument, NULL, 'r' },
        { "latency", required_argument, NULL, 'l' },
        { "depth", required_argument, NULL, 'd' },
        { "instances", required_argument, NULL, 'i' },
        { "threads", required_argument, NULL, 't' },
        { "fault", required_argument, NULL, 'f' },
        { "stats", required_argument, NULL, 'S' },
        { NULL },
    };
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (!take_option(o, c)) {
            return false;
        }
    }
    return optind == argc && o->socket != NULL;
}

static int listen_at(const char *path) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(address.sun_path)) {
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    if (fd >= 0 && (bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 64) != 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Sends the answers that are due; returns the time of the next one, or INT64_MAX. */
static int64_t answer(struct card *card) {
    while (card->done != NULL && card->done->due <= clock_now()) {
        struct job *job = card->done;
        card->done = job->next;
        client_answer(card, job);
    }
    return card->done != NULL ? card->done->due : INT64_MAX;
}

enum { SIGNALS, LISTENER, WAKE, STDIN, FIXED };

static void wait_until(struct pollfd *fds, nfds_t count, int64_t until) {
    int64_t left = until - clock_now();
    left = left > 0 ? left : 0;
    struct timespec t = { left / CLOCK_S, left % CLOCK_S };
    if (ppoll(fds, count, until == INT64_MAX ? NULL : &t, NULL) <= 0) {
        for (nfds_t i = 0; i < count; i++) {
            fds[i].revents = 0;
        }
    }
}

static bool stdin_ended(short revents) {
    char ignored[256];
    return revents != 0 && read(STDIN_FILENO, ignored, sizeof(ignored)) <= 0;
}

/* With the lock held but for the wait. Only this thread adds and frees clients, so that `who` stays valid meanwhile. */
static void serve(struct card *card, int signals) {
    for (;;) {
        struct pollfd fds[FIXED + MAX_CLIENTS] = { { signals, POLLIN, 0 },
                                                   { card->listener, POLLIN, 0 },
                                                   { card->wake_fd, POLLIN, 0 },
                                                   { STDIN_FILENO, POLLIN, 0 } };
        struct client *who[MAX_CLIENTS];
        int64_t until = answer(card);
        clients_sweep(card);
        nfds_t count = FIXED;
        for (struct client *c = card->clients; c != NULL && count < FIXED + MAX_CLIENTS; c = c->next) {
            who[count - FIXED] = c;
            fds[count++] = (struct pollfd){ c->fd, POLLIN, 0 };
        }
        pthread_mutex_unlock(&card->lock);
        wait_until(fds, count, until);
        pthread_mutex_lock(&card->lock);
        if (fds[SIGNALS].revents != 0 || stdin_ended(fds[STDIN].revents)) {
            return;
        }
        uint64_t ignored;
        if (fds[WAKE].revents != 0 && read(card->wake_fd, &ignored, sizeof(ignored)) < 0) {
            continue;
        }
        for (nfds_t i = FIXED; i < count; i++) {
            if (fds[i].revents != 0) {
                client_hear(card, who[i - FIXED]);
            }
        }
        if (fds[LISTENER].revents != 0) {
            client_accept(card);
        }
    }
}

static void stop(struct card *card) {
    card->stopping = true;
    pthread_cond_broadcast(&card->work);
    pthread_mutex_unlock(&card->lock);
    for (unsigned i = 0; i < card->options.threads; i++) {
        pthread_join(card->worker[i], NULL);
    }
    for (struct job *job; (job = card->done) != NULL;) {
        card->done = job->next;
        client_answer(card, job);
    }
    for (struct client *c = card->clients; c != NULL; c = c->next) {
        client_drop(card, c);
    }
    clients_sweep(card);
    unlink(card->options.socket);
}

int main(int argc, char **argv) {
    static struct card card = { .options = { .depth = 16, .instances = 8, .threads = 2 } };
    if (!parse(&card.options, argc, argv)) {
        fprintf(stderr, "emulated-accel: wrong use; the head of tests/accel/main.c has the options\n");
        return 2;
    }
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int signals = signalfd(-1, &set, SFD_CLOEXEC);
    card.listener = listen_at(card.options.socket);
    card.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (signals < 0 || card.listener < 0 || card.wake_fd < 0) {
        perror("emulated-accel");
        return 1;
    }
    pthread_mutex_init(&card.lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&card.work, &attr);
    pthread_mutex_lock(&card.lock);
    for (unsigned i = 0; i < card.options.threads; i++) {
        if (pthread_create(&card.worker[i], NULL, card_worker, &card) != 0) {
            perror("emulated-accel");
            return 1;
        }
    }
    puts("ready");
    fflush(stdout);
    serve(&card, signals);
    stop(&card);
    int rc = card.options.stats == NULL ? 0 : stats_write(&card, card.options.stats);
    free(card.gone);
    return rc != 0;
}
