/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/link.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "wire/bytes.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PING_INTERVAL CLOCK_S

struct link {
    struct conn conn;
    _Atomic int64_t timeout;
    int event_fd; /* readable when the queue is not empty or the link is broken */
    int stop_fd;  /* tells the thread to end */
    pthread_t thread;

    pthread_mutex_t write_lock; /* one message at a time on the wire; taken before nothing else */

    pthread_mutex_t lock; /* owns all that follows */
    json_t *queue[LINK_MAX_WAITING];
    size_t queue_head, queue_count;
    struct error failure; /* set once, when the link is broken */
    struct conn *watched[LINK_MAX_WATCHED];
    size_t watched_count;
};

static void signal_event(int fd) {
    uint64_t one = 1;
    if (write(fd, &one, sizeof(one)) < 0) {
        /* An eventfd write fails only when its counter is full, and then it is readable already. */
        return;
    }
}

static void break_all(struct link *l, const struct error *cause) {
    LOCK_GUARD(&l->lock);
    if (!error_is_set(&l->failure)) {
        l->failure = *cause;
    }
    conn_break(&l->conn);
    for (size_t i = 0; i < l->watched_count; i++) {
        conn_break(l->watched[i]);
    }
    signal_event(l->event_fd);
}

/* Only the thread that reads adds to the queue: what is not full now is not full when it has read a message. */
static bool is_full(struct link *l) {
    LOCK_GUARD(&l->lock);
    return l->queue_count == LINK_MAX_WAITING;
}

static void enqueue(struct link *l, json_t *message) {
    LOCK_GUARD(&l->lock);
    l->queue[(l->queue_head + l->queue_count++) % LINK_MAX_WAITING] = message;
    signal_event(l->event_fd);
}

static bool is_ping(json_t *message) {
    const char *type = json_string_value(json_object_get(message, "type"));
    return type != NULL && strcmp(type, "ping") == 0;
}

/* Reads one message and queues it; pings only prove that the peer lives. */
static int read_message(struct link *l, struct error *err) {
    uint8_t head[4];
    if (conn_read(&l->conn, head, sizeof(head), err) < 0) {
        return -1;
    }
    uint32_t size = get_u32(head);
    if (size > LINK_MAX_MESSAGE) {
        return error_set(err, ERROR_PEER, "the other godwit announced a message of %u bytes, which cannot be", size);
    }
    CLEANUP_FREE char *text = malloc(size + 1);
    if (text == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for a message");
    }
    if (conn_read(&l->conn, text, size, err) < 0) {
        return -1;
    }
    json_error_t why;
    json_t *message = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(message)) {
        json_decref(message);
        return error_set(err, ERROR_PEER, "the other godwit sent a message that is not JSON: %s", why.text);
    }
    if (is_ping(message)) {
        json_decref(message);
        return 0;
    }
    enqueue(l, message);
    return 0;
}

/* A peer that closed the connection may have said why before: that is there to be read when nothing can be sent. */
static void read_last_words(struct link *l) {
    struct error end = { 0 };
    struct pollfd p = { .fd = l->conn.fd, .events = POLLIN };
    while (!is_full(l) && poll(&p, 1, 0) > 0 && read_message(l, &end) == 0) {
    }
}

#define FULL_INTERVAL (10 * CLOCK_MS)

/* One turn of the thread: a message, a ping, or silence. 1 when told to stop. While nobody takes what came (a VMM that
 * drains a slow disk holds our main thread for seconds) no more is read, and that is no silence of the peer's. */
static int turn(struct link *l, int64_t *next_ping, int64_t *last_heard, struct error *err) {
    bool full = is_full(l);
    struct pollfd p[2] = { { .fd = full ? -1 : l->conn.fd, .events = POLLIN }, { .fd = l->stop_fd, .events = POLLIN } };
    int64_t wait = *next_ping - clock_now();
    if (full) {
        *last_heard = clock_now();
        wait = wait < FULL_INTERVAL ? wait : FULL_INTERVAL;
    }
    int n = poll(p, 2, wait > 0 ? (int)(wait / CLOCK_MS + 1) : 0);
    if (n < 0 && errno != EINTR) {
        return error_errno(err, ERROR_SYSTEM, "poll");
    }
    if (n > 0 && p[1].revents != 0) {
        return 1;
    }
    if (n > 0 && p[0].revents != 0) {
        if (read_message(l, err) < 0) {
            return -1;
        }
        *last_heard = clock_now();
    }
    if (clock_now() >= *next_ping) {
        *next_ping = clock_now() + PING_INTERVAL;
        if (link_send(l, json_pack("{s:s}", "type", "ping"), err) < 0) {
            read_last_words(l);
            return -1;
        }
    }
    int64_t timeout = atomic_load(&l->timeout);
    if (clock_now() - *last_heard > timeout) {
        return error_set(err, ERROR_LINK, "the other godwit has been silent for %.0f s: the network is cut or it hangs",
                         (double)timeout / 1e9);
    }
    return 0;
}

static void *run(void *opaque) {
    struct link *l = opaque;
    pthread_setname_np(pthread_self(), "link");
    int64_t next_ping = clock_now() + PING_INTERVAL, last_heard = clock_now();
    struct error err = { 0 };
    int rc;
    do {
        rc = turn(l, &next_ping, &last_heard, &err);
    } while (rc == 0);
    if (rc < 0) {
        break_all(l, &err);
    }
    return NULL;
}

void link_set_timeout(struct link *l, int64_t timeout_ns) {
    /* A peer that stops in the middle of a message, or does not read, must not hold the thread for ever. */
    struct timeval limit = { .tv_sec = (time_t)(timeout_ns / CLOCK_S), .tv_usec = timeout_ns % CLOCK_S / 1000 };
    setsockopt(l->conn.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(l->conn.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    atomic_store(&l->conn.patience, timeout_ns);
    atomic_store(&l->timeout, timeout_ns);
}

struct link *link_open(int fd, int64_t timeout_ns, struct error *err) {
    struct link *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        close(fd);
        error_errno(err, ERROR_SYSTEM, "no memory for the link");
        return NULL;
    }
    conn_init(&l->conn, fd, "control");
    l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&l->lock, NULL);
    pthread_mutex_init(&l->write_lock, NULL);
    link_set_timeout(l, timeout_ns);
    if (l->event_fd < 0 || l->stop_fd < 0 || pthread_create(&l->thread, NULL, run, l) != 0) {
        error_errno(err, ERROR_SYSTEM, "cannot start the link");
        if (l->event_fd >= 0) {
            close(l->event_fd);
        }
        if (l->stop_fd >= 0) {
            close(l->stop_fd);
        }
        conn_close(&l->conn);
        free(l);
        return NULL;
    }
    return l;
}

void link_close(struct link *l) {
    if (l == NULL) {
        return;
    }
    signal_event(l->stop_fd);
    conn_break(&l->conn);
    pthread_join(l->thread, NULL);
    while (l->queue_count > 0) {
        json_decref(l->queue[l->queue_head]);
        l->queue_head = (l->queue_head + 1) % LINK_MAX_WAITING;
        l->queue_count--;
    }
    conn_close(&l->conn);
    close(l->event_fd);
    close(l->stop_fd);
    pthread_mutex_destroy(&l->lock);
    pthread_mutex_destroy(&l->write_lock);
    free(l);
}

void link_watch(struct link *l, struct conn *c) {
    LOCK_GUARD(&l->lock);
    if (l->watched_count < LINK_MAX_WATCHED) {
        l->watched[l->watched_count++] = c;
    }
    if (error_is_set(&l->failure)) {
        conn_break(c);
    }
}

int link_send(struct link *l, json_t *message, struct error *err) {
    CLEANUP_FREE char *text = json_dumps(message, JSON_COMPACT);
    json_decref(message);
    if (text == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory for a message");
    }
    size_t size = strlen(text);
    if (size > LINK_MAX_MESSAGE) {
        return error_set(err, ERROR_SYSTEM, "a message of %zu bytes is too long to send", size);
    }
    uint8_t head[4];
    put_u32(head, (uint32_t)size);
    struct iovec iov[2] = { { head, sizeof(head) }, { text, size } };
    LOCK_GUARD(&l->write_lock);
    return conn_writev(&l->conn, iov, 2, err);
}

int link_receive(struct link *l, json_t **message, struct error *err) {
    LOCK_GUARD(&l->lock);
    if (l->queue_count > 0) {
        *message = l->queue[l->queue_head];
        l->queue_head = (l->queue_head + 1) % LINK_MAX_WAITING;
        l->queue_count--;
        return 1;
    }
    if (error_is_set(&l->failure)) {
        return error_set(err, l->failure.class, "%s", l->failure.desc);
    }
    uint64_t drained; /* under the lock: nobody can queue between the look and this */
    if (read(l->event_fd, &drained, sizeof(drained)) < 0) {
        return 0;
    }
    return 0;
}

int link_poll_fd(const struct link *l) {
    return l->event_fd;
}

void link_break(struct link *l) {
    struct error cause = { 0 };
    error_set(&cause, ERROR_LINK, "the connection was closed");
    break_all(l, &cause);
}

struct conn *link_conn(struct link *l) {
    return &l->conn;
}
