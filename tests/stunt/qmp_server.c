/* SPDX-License-Identifier: Apache-2.0 */
#include "qmp_server.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "blob.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#define FDS_MAX 16

struct qmp_server {
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    struct qmp_handler handler;
    int listen_fd, signal_fd;
    int wake_fd; /* an eventfd: there is something to send */
    int client;  /* -1 between clients */
    bool ended;  /* a signal asked for the end */
    int fds[FDS_MAX];
    size_t fd_count;
    char input[4096];
    size_t input_at, input_length;
    /* The queue out: what is under `lock` is for every thread. */
    pthread_mutex_t lock;
    struct blob output; /* bytes from output.at on are to be sent */
    bool ready;         /* the client has negotiated: it may see events */
};

static void drop_fds(struct qmp_server *server) {
    for (size_t i = 0; i < server->fd_count; i++) {
        close(server->fds[i]);
    }
    server->fd_count = 0;
}

int qmp_server_take_fd(struct qmp_server *server) {
    if (server->fd_count == 0) {
        return -1;
    }
    int fd = server->fds[0];
    server->fds[0] = server->fds[--server->fd_count];
    drop_fds(server); /* QEMU takes one and closes the rest */
    return fd;
}

/* Under the lock. Takes `object` over. */
static void put_object(struct qmp_server *server, json_t *object) {
    char *text = json_dumps(object, 0);
    blob_put_bytes(&server->output, text, strlen(text));
    blob_put_bytes(&server->output, "\r\n", 2);
    free(text);
    json_decref(object);
}

static void wake(struct qmp_server *server) {
    uint64_t one = 1;
    ssize_t n = write(server->wake_fd, &one, sizeof(one));
    (void)n; /* full means that it is awake already */
}

void qmp_server_event(struct qmp_server *server, const char *name, json_t *data) {
    int64_t now = clock_wall();
    json_t *event = json_pack("{s:{s:I, s:I}, s:s}", "timestamp", "seconds", (json_int_t)(now / CLOCK_S),
                              "microseconds", (json_int_t)(now % CLOCK_S / 1000), "event", name);
    if (data != NULL) {
        json_object_set_new(event, "data", data);
    }
    LOCK_GUARD(&server->lock);
    if (server->ready) {
        put_object(server, event);
        wake(server);
    } else {
        json_decref(event);
    }
}

/* Sends what the socket takes. -1 when the client is gone. */
static int flush_output(struct qmp_server *server) {
    LOCK_GUARD(&server->lock);
    struct blob *out = &server->output;
    while (out->at < out->length) {
        ssize_t n = send(server->client, out->data + out->at, out->length - out->at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        }
        out->at += (size_t)n;
    }
    out->at = out->length = 0;
    return 0;
}

static bool has_output(struct qmp_server *server) {
    LOCK_GUARD(&server->lock);
    return server->output.at < server->output.length;
}

static void take_descriptors(struct qmp_server *server, struct msghdr *message) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        drop_fds(server);
        server->fd_count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(server->fds, CMSG_DATA(c), server->fd_count * sizeof(int));
    }
}

/* Reads what is there. -1 when the client is gone. */
static int fill_input(struct qmp_server *server) {
    union {
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec into = { server->input, sizeof(server->input) };
    struct msghdr message = {
        .msg_iov = &into, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
    };
    ssize_t n = recvmsg(server->client, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    if (n <= 0) {
        return -1;
    }
    take_descriptors(server, &message);
    server->input_at = 0;
    server->input_length = (size_t)n;
    return 0;
}

/* Sends until there is input. -1 when the client is gone or the end was asked for. */
static int wait_input(struct qmp_server *server) {
    while (server->input_at == server->input_length) {
        struct pollfd polls[] = {
            { server->client, (short)(has_output(server) ? POLLIN | POLLOUT : POLLIN), 0 },
            { server->wake_fd, POLLIN, 0 },
            { server->signal_fd, POLLIN, 0 },
        };
        if (poll(polls, 3, -1) < 0 && errno != EINTR) {
            return -1;
        }
        uint64_t count;
        if (polls[1].revents != 0 && read(server->wake_fd, &count, sizeof(count)) < 0) {
            return -1;
        }
        if (polls[2].revents != 0) {
            server->ended = true;
            return -1;
        }
        if (flush_output(server) < 0 || (polls[0].revents & ~POLLOUT && fill_input(server) < 0)) {
            return -1;
        }
    }
    return 0;
}

/* One byte a call: then the JSON reader never takes more than one object, and requests need no line ends. */
static size_t next_byte(void *buffer, size_t length, void *context) {
    struct qmp_server *server = context;
    if (length == 0 || wait_input(server) < 0) {
        return 0;
    }
    *(char *)buffer = server->input[server->input_at++];
    return 1;
}

static void put_answer(struct qmp_server *server, json_t *answer) {
    LOCK_GUARD(&server->lock);
    put_object(server, answer);
}

/* Sends the last answers, but not for ever. */
static void flush_last(struct qmp_server *server) {
    int64_t until = clock_now() + CLOCK_S;
    while (flush_output(server) == 0 && has_output(server) && clock_now() < until) {
        struct pollfd writable = { server->client, POLLOUT, 0 };
        poll(&writable, 1, 100);
    }
}

static json_t *parse_error(void) {
    return json_pack("{s:{s:s, s:s}}", "error", "class", "GenericError", "desc", "JSON parse error, expecting value");
}

/* Starts afresh behind what could not be parsed: at once behind a byte 0xff, which like in QEMU makes the parser forget
 * half a command, else with the next line. */
static void skip_bad_input(struct qmp_server *server) {
    if (server->input_at > 0 && (unsigned char)server->input[server->input_at - 1] == 0xff) {
        return;
    }
    const char *rest = server->input + server->input_at;
    const char *newline = memchr(rest, '\n', server->input_length - server->input_at);
    server->input_at = newline != NULL ? (size_t)(newline + 1 - server->input) : server->input_length;
}

/* Talks to one client until it goes. True when that was the last one. */
static bool serve_client(struct qmp_server *server) {
    for (;;) {
        json_error_t why;
        json_t *request = json_load_callback(next_byte, server, JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY, &why);
        if (request == NULL) {
            if (server->ended || json_error_code(&why) == json_error_premature_end_of_input) {
                return server->ended;
            }
            skip_bad_input(server);
            put_answer(server, parse_error());
            continue;
        }
        bool ready = server->ready;
        json_t *answer = server->handler.answer(server->handler.context, request, &ready);
        json_decref(request);
        if (answer != NULL) {
            put_answer(server, answer);
        }
        pthread_mutex_lock(&server->lock);
        server->ready = ready;
        pthread_mutex_unlock(&server->lock);
        if (server->handler.over(server->handler.context)) {
            flush_last(server);
            return true;
        }
    }
}

static void begin_client(struct qmp_server *server, int client) {
    server->client = client;
    server->input_at = server->input_length = 0;
    LOCK_GUARD(&server->lock);
    server->ready = false;
    server->output.at = server->output.length = 0;
    blob_put_bytes(&server->output, server->handler.greeting, strlen(server->handler.greeting));
    blob_put_bytes(&server->output, "\r\n", 2);
}

static void end_client(struct qmp_server *server) {
    pthread_mutex_lock(&server->lock);
    server->ready = false;
    pthread_mutex_unlock(&server->lock);
    drop_fds(server);
    close(server->client);
    server->client = -1;
}

int qmp_server_run(struct qmp_server *server, struct error *err) {
    for (;;) {
        struct pollfd polls[] = { { server->listen_fd, POLLIN, 0 }, { server->signal_fd, POLLIN, 0 } };
        if (poll(polls, 2, -1) < 0 && errno != EINTR) {
            return error_errno(err, ERROR_SYSTEM, "poll");
        }
        if (polls[1].revents != 0) {
            return 0;
        }
        int client = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0) {
            continue;
        }
        begin_client(server, client);
        bool last = serve_client(server);
        end_client(server);
        if (last) {
            return 0;
        }
    }
}

static int open_listener(struct qmp_server *server, const char *path, struct error *err) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(address.sun_path)) {
        return error_set(err, ERROR_USAGE, "%s is too long for a socket", path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    memcpy(server->path, path, strlen(path) + 1);
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0) {
        return error_errno(err, ERROR_SYSTEM, "listening at %s", path);
    }
    server->listen_fd = take_fd(&fd);
    return 0;
}

struct qmp_server *qmp_server_new(const char *path, const struct qmp_handler *handler, struct error *err) {
    struct qmp_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        error_set(err, ERROR_SYSTEM, "no memory");
        return NULL;
    }
    server->handler = *handler;
    server->client = server->listen_fd = -1;
    pthread_mutex_init(&server->lock, NULL);
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    server->signal_fd = signalfd(-1, &ends, SFD_CLOEXEC);
    server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->signal_fd < 0 || server->wake_fd < 0) {
        error_errno(err, ERROR_SYSTEM, "signalfd or eventfd");
    } else if (open_listener(server, path, err) == 0) {
        return server;
    }
    qmp_server_free(server);
    return NULL;
}

void qmp_server_remove(struct qmp_server *server) {
    unlink(server->path);
}

void qmp_server_free(struct qmp_server *server) {
    if (server->listen_fd >= 0) {
        qmp_server_remove(server);
        close(server->listen_fd);
    }
    close(server->signal_fd);
    close(server->wake_fd);
    blob_free(&server->output);
    pthread_mutex_destroy(&server->lock);
    free(server);
}
