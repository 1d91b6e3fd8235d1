/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/control.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "wire/address.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINE_MAX_BYTES 65536

struct control {
    const struct control_ops *ops;
    void *opaque;
    char path[256];
    int listener, stop_fd;
    pthread_t thread;
    bool negotiated; /* the client has sent qmp_capabilities */
};

static void reply(int client, json_t *object) {
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (text != NULL) {
        struct iovec iov[2] = { { text, strlen(text) }, { (void *)(uintptr_t) "\r\n", 2 } };
        struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
        /* The socket does not block: a client that asks and does not read gets no half answers, it gets the end. */
        if (sendmsg(client, &msg, MSG_NOSIGNAL) != (ssize_t)(iov[0].iov_len + iov[1].iov_len)) {
            shutdown(client, SHUT_RDWR);
        }
    }
    free(text);
}

static json_t *failure(const char *class, const char *desc) {
    return json_pack("{s:{s:s, s:s}}", "error", "class", class, "desc", desc);
}

static json_t *result(json_t *value) {
    return json_pack("{s:o}", "return", value);
}

static json_t *outcome(int rc, const struct error *err) {
    return rc < 0 ? failure("GenericError", err->desc) : result(json_object());
}

static json_t *list_commands(void) {
    static const char *const names[] = { "qmp_capabilities", "query-commands",           "query-version",
                                         "query-migrate",    "query-migrate-parameters", "migrate-set-parameters",
                                         "migrate_cancel",   "migrate-force-switchover" };
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        json_array_append_new(list, json_pack("{s:s}", "name", names[i]));
    }
    return list;
}

static json_t *version(void) {
    int major = 0, minor = 0, micro = 0;
    if (sscanf(GODWIT_VERSION, "%d.%d.%d", &major, &minor, &micro) < 1) {
        major = 0;
    }
    return json_pack("{s:{s:i, s:i, s:i}, s:s}", "qemu", "major", major, "minor", minor, "micro", micro, "package",
                     "godwit " GODWIT_VERSION);
}

static json_t *execute(struct control *c, const char *command, json_t *arguments) {
    struct error err = { 0 };
    if (strcmp(command, "qmp_capabilities") == 0) {
        c->negotiated = true;
        return result(json_object());
    }
    if (!c->negotiated) {
        return failure("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'");
    }
    if (strcmp(command, "query-migrate") == 0) {
        return result(c->ops->query(c->opaque));
    }
    if (strcmp(command, "query-migrate-parameters") == 0) {
        return result(c->ops->parameters(c->opaque));
    }
    if (strcmp(command, "migrate-set-parameters") == 0) {
        return outcome(c->ops->set_parameters(c->opaque, arguments, &err), &err);
    }
    if (strcmp(command, "migrate_cancel") == 0) {
        return outcome(c->ops->cancel(c->opaque, &err), &err);
    }
    if (strcmp(command, "migrate-force-switchover") == 0) {
        return outcome(c->ops->force(c->opaque, &err), &err);
    }
    if (strcmp(command, "query-commands") == 0) {
        return result(list_commands());
    }
    if (strcmp(command, "query-version") == 0) {
        return result(version());
    }
    error_set(&err, ERROR_USAGE, "The command %.100s has not been found", command); /* cut, and still UTF-8 */
    return failure("CommandNotFound", err.desc);
}

static void serve_line(struct control *c, int client, const char *line, size_t length) {
    json_error_t why;
    json_t *request = json_loadb(line, length, 0, &why);
    const char *command = json_string_value(json_object_get(request, "execute"));
    json_t *answer = command ? execute(c, command, json_object_get(request, "arguments"))
                             : failure("GenericError", "expected a JSON object with the member 'execute'");
    json_t *id = json_object_get(request, "id");
    if (id != NULL) {
        json_object_set(answer, "id", id);
    }
    reply(client, answer);
    json_decref(request);
}

/* Waits until `fd` is readable; false when told to stop. */
static bool wait_readable(struct control *c, int fd) {
    struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = c->stop_fd, .events = POLLIN } };
    while (poll(p, 2, -1) < 0) {
        if (errno != EINTR) {
            return false;
        }
    }
    return p[1].revents == 0;
}

static void serve_client(struct control *c, int client) {
    CLEANUP_FREE char *buffer = malloc(LINE_MAX_BYTES);
    size_t have = 0;
    c->negotiated = false;
    reply(client, json_pack("{s:{s:o, s:[]}}", "QMP", "version", version(), "capabilities"));
    while (buffer != NULL && wait_readable(c, client)) {
        ssize_t n = recv(client, buffer + have, LINE_MAX_BYTES - have, 0);
        if (n <= 0) {
            return;
        }
        have += (size_t)n;
        char *newline;
        while ((newline = memchr(buffer, '\n', have)) != NULL) {
            size_t length = (size_t)(newline - buffer);
            if (length > 1) {
                serve_line(c, client, buffer, length);
            }
            have -= length + 1;
            memmove(buffer, newline + 1, have);
        }
        if (have == LINE_MAX_BYTES) {
            return;
        }
    }
}

static void *run(void *opaque) {
    struct control *c = opaque;
    pthread_setname_np(pthread_self(), "control");
    while (wait_readable(c, c->listener)) {
        char peer[64];
        CLEANUP_CLOSE int client = address_accept(c->listener, peer, sizeof(peer));
        if (client >= 0) {
            serve_client(c, client);
        } else {
            clock_sleep(10 * CLOCK_MS); /* out of descriptors: the connection waits, and so do we */
        }
    }
    return NULL;
}

struct control *control_open(const char *path, const struct control_ops *ops, void *opaque, struct error *err) {
    struct address a = { .kind = ADDRESS_UNIX };
    char text[300];
    snprintf(text, sizeof(text), "unix:%s", path);
    if (address_parse(text, &a, err) < 0) {
        return NULL;
    }
    struct control *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory for the control socket");
        return NULL;
    }
    c->ops = ops;
    c->opaque = opaque;
    snprintf(c->path, sizeof(c->path), "%s", path);
    c->listener = address_listen(&a, err);
    if (c->listener < 0) {
        free(c);
        return NULL;
    }
    c->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->stop_fd < 0 || pthread_create(&c->thread, NULL, run, c) != 0) {
        error_errno(err, ERROR_SYSTEM, "cannot start the control socket");
        close(c->listener);
        unlink(path);
        free(c);
        return NULL;
    }
    return c;
}

void control_close(struct control *c) {
    if (c == NULL) {
        return;
    }
    eventfd_write(c->stop_fd, 1);
    pthread_join(c->thread, NULL);
    close(c->listener);
    close(c->stop_fd);
    unlink(c->path);
    free(c);
}
