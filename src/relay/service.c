/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/service.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "relay/inbound.h"
#include "relay/outbound.h"
#include "relay/report.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#define CONNECTIONS 1024
#define LISTENERS 2
/* For what is cut off to come to its end. */
#define CUT_OFF (5 * CLOCK_S)

struct service {
    struct shared shared;
    int listeners[LISTENERS]; /* -1: none */
    pthread_mutex_t lock;     /* owns `running` */
    unsigned running;         /* connections */
};

struct visit {
    struct service *service;
    struct outbound *outbound; /* at the source */
    int fd;                    /* at the destination */
    char peer[160];
};

/* ---- connections ---- */

static void *run_visit(void *opaque) {
    struct visit *v = opaque;
    struct service *s = v->service;
    pthread_setname_np(pthread_self(), "carry out");
    if (v->outbound != NULL) {
        outbound_run(v->outbound);
    } else {
        inbound_run(&s->shared, v->fd, v->peer);
    }
    free(v);
    LOCK_GUARD(&s->lock);
    s->running--;
    return NULL;
}

static void refuse(struct service *s, int fd, const char *peer, const char *why) {
    struct error err = { 0 };
    error_set(&err, ERROR_REFUSED, "%s", why);
    report_refused(&s->shared, peer, &err);
    close(fd);
}

static unsigned running(struct service *s) {
    LOCK_GUARD(&s->lock);
    return s->running;
}

static void count(struct service *s, int more) {
    LOCK_GUARD(&s->lock);
    s->running += (unsigned)more;
}

static void start_thread(struct service *s, struct visit *v) {
    pthread_t thread;
    count(s, 1);
    int rc = pthread_create(&thread, NULL, run_visit, v);
    if (rc == 0) {
        pthread_detach(thread);
        return;
    }
    count(s, -1);
    if (v->outbound != NULL) {
        struct error err = { 0 };
        error_set(&err, ERROR_SYSTEM, "cannot start a thread for a connection: %s", strerror(rc));
        outbound_refuse(v->outbound, &err);
    } else {
        atomic_fetch_sub(&s->shared.strangers, 1);
        refuse(s, v->fd, v->peer, "cannot start a thread for it");
    }
    free(v);
}

static void take(struct service *s, int fd, const char *peer) {
    if (running(s) >= CONNECTIONS) {
        refuse(s, fd, peer, "too many connections are carried");
        return;
    }
    bool inbound = s->shared.config->role == RELAY_AT_DESTINATION;
    if (inbound && atomic_load(&s->shared.strangers) >= INBOUND_STRANGERS) {
        refuse(s, fd, peer, "too many connections have not said yet what they want");
        return;
    }
    struct visit *v = calloc(1, sizeof(*v));
    if (v == NULL) {
        refuse(s, fd, peer, "no memory");
        return;
    }
    *v = (struct visit){ .service = s, .fd = fd };
    snprintf(v->peer, sizeof(v->peer), "%s", peer);
    if (inbound) {
        atomic_fetch_add(&s->shared.strangers, 1);
    } else if ((v->outbound = outbound_begin(&s->shared, fd, peer)) == NULL) {
        free(v);
        return;
    }
    start_thread(s, v);
}

/* ---- listening ---- */

static int listen_at(struct service *s, unsigned which, const struct address *at, struct error *err) {
    char text[300];
    s->listeners[which] = address_listen(at, err);
    if (s->listeners[which] < 0) {
        return -1;
    }
    bool brackets = at->kind == ADDRESS_TCP && strchr(at->host, ':') != NULL;
    snprintf(text, sizeof(text), "%s:%s%s%s%s%s", at->kind == ADDRESS_UNIX ? "unix" : "tcp", brackets ? "[" : "",
             at->host, brackets ? "]" : "", at->port[0] ? ":" : "", at->port);
    report_listening(&s->shared, text);
    return 0;
}

/* What the firewall of this host redirects on the way out comes to its loopback. */
static int listen_redirected(struct service *s, const struct address *at, struct error *err) {
    struct address four = *at, six = *at;
    struct error ignored = { 0 };
    snprintf(four.host, sizeof(four.host), "127.0.0.1");
    snprintf(six.host, sizeof(six.host), "::1");
    if (listen_at(s, 0, &four, err) < 0) {
        return -1;
    }
    if (listen_at(s, 1, &six, &ignored) < 0) {
        log_info("nothing is taken by IPv6: %s", ignored.desc);
    }
    return 0;
}

static void stop_listening(struct service *s) {
    const struct relay_config *config = s->shared.config;
    for (unsigned i = 0; i < LISTENERS; i++) {
        if (s->listeners[i] >= 0) {
            close(s->listeners[i]);
            s->listeners[i] = -1;
            if (config->at.kind == ADDRESS_UNIX) {
                unlink(config->at.host);
            }
        }
    }
}

static void accept_all(struct service *s, int listener) {
    char peer[160];
    int fd;
    while ((fd = address_accept(listener, peer, sizeof(peer))) >= 0) {
        take(s, fd, peer);
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        log_warning("cannot accept a connection: %s; it waits", strerror(errno));
        clock_sleep(CLOCK_S / 10); /* it stays readable */
    }
}

/* Whether a signal asked for the end; a given `ms` is waited for it at most. */
static bool signalled(const struct service *s, int ms) {
    struct pollfd p = { .fd = s->shared.config->signal_fd, .events = POLLIN };
    struct signalfd_siginfo info;
    return poll(&p, 1, ms) > 0 && read(p.fd, &info, sizeof(info)) > 0;
}

static int serve(struct service *s, struct error *err) {
    while (!signalled(s, 0)) {
        struct pollfd p[LISTENERS + 1] = { { .fd = s->shared.config->signal_fd, .events = POLLIN } };
        for (unsigned i = 0; i < LISTENERS; i++) {
            p[i + 1] = (struct pollfd){ .fd = s->listeners[i], .events = POLLIN };
        }
        if (poll(p, LISTENERS + 1, -1) < 0 && errno != EINTR) {
            return error_errno(err, ERROR_SYSTEM, "poll");
        }
        for (unsigned i = 0; i < LISTENERS; i++) {
            if (p[i + 1].revents != 0) {
                accept_all(s, s->listeners[i]);
            }
        }
    }
    return 0;
}

/* Whether all have come to their end. */
static bool finish(struct service *s) {
    bool again = false;
    if (running(s) > 0) {
        log_notice("ends when the migrations under way have ended; a second signal cuts them off");
    }
    while (running(s) > 0 && !(again = signalled(s, 50))) {
    }
    if (again) {
        struct error why = { 0 };
        error_set(&why, ERROR_CANCELLED, "the relay was told to end");
        migrations_fail_all(&s->shared.migrations, &why);
    }
    for (int64_t until = clock_now() + CUT_OFF; running(s) > 0 && clock_now() < until;) {
        clock_sleep(CLOCK_S / 50);
    }
    return running(s) == 0;
}

int service_run(const struct relay_config *config, bool *left, struct error *err) {
    struct service *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory");
    }
    *s = (struct service){ .shared.config = config, .listeners = { -1, -1 } };
    pthread_mutex_init(&s->lock, NULL);
    migrations_init(&s->shared.migrations);
    int rc = config->redirected ? listen_redirected(s, &config->at, err) : listen_at(s, 0, &config->at, err);
    if (rc == 0) {
        rc = serve(s, err);
    }
    stop_listening(s);
    *left = !finish(s);
    if (!*left) {
        free(s);
    }
    return rc;
}
