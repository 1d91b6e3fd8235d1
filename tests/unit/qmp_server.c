/* SPDX-License-Identifier: Apache-2.0 */
#include "qmp_server.h"

#include "vmm/qemu/query.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void say(struct server *s, const char *text) {
    size_t length = strlen(text), done = 0;
    while (done < length) {
        ssize_t n = send(s->fd, text + done, length - done, MSG_NOSIGNAL);
        if (n < 0) {
            return;
        }
        done += (size_t)n;
    }
}

static ssize_t receive(struct server *s) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = { s->held + s->have, sizeof(s->held) - s->have };
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)
    };
    ssize_t n = recvmsg(s->fd, &m, MSG_CMSG_CLOEXEC);
    struct cmsghdr *h = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    if (h != NULL && h->cmsg_type == SCM_RIGHTS) {
        memcpy(&s->passed, CMSG_DATA(h), sizeof(int));
    }
    return n;
}

bool hear(struct server *s, char name[64], char id[64]) {
    for (;;) {
        char *end = memchr(s->held, '\n', s->have);
        if (end == NULL) {
            if (s->have == sizeof(s->held)) {
                s->have = 0; /* a command without end */
            }
            ssize_t n = receive(s);
            if (n <= 0) {
                return false;
            }
            s->have += (size_t)n;
            continue;
        }
        *end = '\0';
        size_t length = (size_t)(end - s->held) + 1;
        char *reset = memchr(s->held, '\xff', length - 1);
        json_t *command = json_loads(reset ? reset + 1 : s->held, 0, NULL);
        s->saw_reset = s->saw_reset || reset != NULL;
        memmove(s->held, s->held + length, s->have - length);
        s->have -= length;
        if (command != NULL) {
            query_string(json_object_get(command, "execute"), name, 64);
            query_string(json_object_get(command, "id"), id, 64);
            json_decref(command);
            return true;
        }
    }
}

void answer(struct server *s, const char *id, const char *value) {
    char text[512];
    snprintf(text, sizeof(text), "{\"return\": %s, \"id\": \"%s\"}\r\n", value, id);
    say(s, text);
}

void *run_server(void *opaque) {
    struct server *s = opaque;
    s->serve(s);
    return NULL;
}

struct qmp *begin(struct server *s, void (*serve)(struct server *)) {
    struct error err = { 0 };
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    *s = (struct server){ .fd = pair[0], .serve = serve, .passed = -1 };
    struct qmp *q = qmp_from_fd(pair[1], &err);
    assert_non_null(q);
    assert_int_equal(pthread_create(&s->thread, NULL, run_server, s), 0);
    return q;
}

void finish(struct server *s, struct qmp *q) {
    qmp_close(q);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

void answer_all(struct server *s) {
    char name[64], id[64];
    while (hear(s, name, id)) {
        answer(s, id, "{}");
    }
}

void serve_deaf(struct server *s) {
    while (!atomic_load(&s->may_read)) {
        clock_sleep(CLOCK_MS);
    }
    answer_all(s);
}
