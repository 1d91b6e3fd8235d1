/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP client against a server that behaves badly in every way that we could think of. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/qemu/qmp.h"
#include "vmm/qemu/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHORT (200 * CLOCK_MS)
#define LONG (20 * CLOCK_S)
#define GREETING                                                                                                       \
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}, \"capabilities\": []}}\r\n"

/* One end of a socketpair with a thread that plays QEMU. */
struct server {
    pthread_t thread;
    int fd;
    void (*serve)(struct server *s);
    int passed; /* a descriptor that came with the last command; -1: none */
    bool saw_reset;
    atomic_bool may_read;
    char held[8192]; /* what is read and not yet taken */
    size_t have;
};

static void say(struct server *s, const char *text) {
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

/* The next command: its name in `name`, its id in `id`. Like QEMU it forgets what came before a 0xFF byte. */
static bool hear(struct server *s, char name[64], char id[64]) {
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

static void answer(struct server *s, const char *id, const char *value) {
    char text[512];
    snprintf(text, sizeof(text), "{\"return\": %s, \"id\": \"%s\"}\r\n", value, id);
    say(s, text);
}

static void *run_server(void *opaque) {
    struct server *s = opaque;
    s->serve(s);
    return NULL;
}

static struct qmp *begin(struct server *s, void (*serve)(struct server *)) {
    struct error err = { 0 };
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    *s = (struct server){ .fd = pair[0], .serve = serve, .passed = -1 };
    struct qmp *q = qmp_from_fd(pair[1], &err);
    assert_non_null(q);
    assert_int_equal(pthread_create(&s->thread, NULL, run_server, s), 0);
    return q;
}

static void finish(struct server *s, struct qmp *q) {
    qmp_close(q);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

static void answer_all(struct server *s) {
    char name[64], id[64];
    while (hear(s, name, id)) {
        answer(s, id, "{}");
    }
}

static void serve_greeting(struct server *s) {
    say(s, GREETING);
    answer_all(s);
}

static void test_greeting(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    struct qmp *q = begin(&s, serve_greeting);
    assert_int_equal(qmp_negotiate(q, LONG, &err), 0);
    assert_int_equal(qmp_version(q).major, 7);
    assert_int_equal(qmp_version(q).minor, 2);
    assert_int_equal(qmp_version(q).micro, 22);
    assert_int_equal(qmp_peer_pid(q), getpid());
    finish(&s, q);
}

static void serve_split(struct server *s) {
    char name[64], id[64], text[256];
    hear(s, name, id);
    int n = snprintf(text, sizeof(text), "{\"event\": \"STOP\"}\r\n\r\n{\"return\": {\"a\": 7}, \"id\": \"%s\"}\n", id);
    for (int i = 0; i < n; i++) {
        char one[2] = { text[i], '\0' };
        say(s, one);
    }
}

static void test_split_lines(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    json_t *ret = NULL;
    struct qmp *q = begin(&s, serve_split);
    assert_int_equal(qmp_execute(q, "x", NULL, &ret, LONG, &err), 0);
    assert_int_equal(json_integer_value(json_object_get(ret, "a")), 7);
    json_decref(ret);
    finish(&s, q);
}

struct seen {
    struct qmp *q;
    int count, executed;
    char names[8][32];
};

static void on_event(void *opaque, const char *name, json_t *data, int64_t when) {
    struct seen *seen = opaque;
    struct error err = { 0 };
    assert_true(when > 0);
    assert_true(seen->count < 8);
    snprintf(seen->names[seen->count++], sizeof(seen->names[0]), "%s", name);
    if (json_is_true(json_object_get(data, "call")) && qmp_execute(seen->q, "inner", NULL, NULL, LONG, &err) == 0) {
        seen->executed++;
    }
}

static void serve_events(struct server *s) {
    char name[64], id[64];
    hear(s, name, id);
    say(s, "{\"event\": \"STOP\", \"data\": {\"call\": true}}\r\n{\"event\": \"RESUME\"}\r\n");
    answer(s, id, "1");
    hear(s, name, id);
    say(s, "{\"event\": \"DURING\"}\r\n");
    answer(s, id, "{}");
    answer_all(s);
}

static void test_events_between(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    struct seen seen = { 0 };
    seen.q = begin(&s, serve_events);
    qmp_on_event(seen.q, on_event, &seen);
    assert_int_equal(qmp_execute(seen.q, "outer", NULL, NULL, LONG, &err), 0);
    assert_int_equal(seen.executed, 1);
    assert_int_equal(seen.count, 3);
    assert_string_equal(seen.names[0], "STOP");
    assert_string_equal(seen.names[1], "RESUME");
    assert_string_equal(seen.names[2], "DURING");
    finish(&s, seen.q);
}

static void serve_late_event(struct server *s) {
    char name[64], id[64];
    hear(s, name, id);
    answer(s, id, "{}");
    say(s, "{\"return\": {}, \"id\": \"nobody's\"}\r\n{\"event\": \"MIGRATION\"}\r\n");
    answer_all(s);
}

static void test_wait_event(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    struct seen seen = { 0 };
    struct qmp *q = begin(&s, serve_late_event);
    qmp_on_event(q, on_event, &seen);
    assert_int_equal(qmp_execute(q, "x", NULL, NULL, LONG, &err), 0);
    while (seen.count == 0) {
        assert_true(qmp_wait_event(q, LONG, &err) >= 0);
    }
    assert_string_equal(seen.names[0], "MIGRATION");
    assert_int_equal(qmp_wait_event(q, SHORT, &err), 0);
    assert_int_equal(qmp_drive(q, &err), 0);
    finish(&s, q);
}

static void serve_garbage(struct server *s) {
    char name[64], id[64];
    hear(s, name, id);
    say(s, "what?\r\n[1]\r\n\"text\"\r\n{\"half\": \r\n\x01\x02\xfe\r\n{\"id\": 5, \"return\": {}}\r\n{\"return\": "
           "{}}\r\n");
    say(s, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not yours\"}}\r\n{\"event\": 3}\r\n");
    answer(s, id, "18446744073709551615");
    answer_all(s);
}

static void test_garbage(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    json_t *ret = NULL;
    int64_t n;
    struct qmp *q = begin(&s, serve_garbage);
    assert_int_equal(qmp_execute(q, "x", NULL, &ret, LONG, &err), 0);
    assert_true(query_int(ret, &n));
    assert_true(n == INT64_MAX);
    json_decref(ret);
    finish(&s, q);
}

static void serve_nonsense(struct server *s) {
    for (int i = 0; i < 1000; i++) {
        say(s, "(qemu) info status\r\n");
    }
    answer_all(s);
}

static void test_too_much_garbage(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    struct qmp *q = begin(&s, serve_nonsense);
    assert_int_equal(qmp_execute(q, "x", NULL, NULL, LONG, &err), -1);
    assert_int_equal(err.class, ERROR_VMM);
    assert_non_null(strstr(err.desc, "does not speak QMP"));
    error_clear(&err);
    assert_int_equal(qmp_resync(q, LONG, &err), 0);
    finish(&s, q);
}

static void serve_long_line(struct server *s) {
    char *piece = malloc(1 << 20);
    memset(piece, 'x', 1 << 20);
    piece[(1 << 20) - 1] = '\0';
    for (int i = 0; i < 18; i++) {
        say(s, piece);
    }
    free(piece);
    say(s, "\n");
    answer_all(s);
}

static void test_long_line(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    struct qmp *q = begin(&s, serve_long_line);
    assert_int_equal(qmp_execute(q, "x", NULL, NULL, LONG, &err), -1);
    assert_non_null(strstr(err.desc, "longer than 16 MiB"));
    error_clear(&err);
    assert_int_equal(qmp_resync(q, LONG, &err), 0);
    finish(&s, q);
}

static void serve_end(struct server *s) {
    char name[64], id[64];
    hear(s, name, id);
    say(s, "{\"return\":");
    shutdown(s->fd, SHUT_RDWR);
}

static void test_end_of_file(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    struct qmp *q = begin(&s, serve_end);
    assert_int_equal(qmp_execute(q, "x", NULL, NULL, LONG, &err), -1);
    assert_int_equal(err.class, ERROR_VMM);
    assert_non_null(strstr(err.desc, "QEMU went away"));
    assert_true(qmp_gone(q));
    assert_string_equal(qmp_refusal(q), "");
    error_clear(&err);
    assert_int_equal(qmp_wait_event(q, LONG, &err), -1);
    error_clear(&err);
    assert_int_equal(qmp_resync(q, LONG, &err), -1);
    finish(&s, q);
}

static void serve_late(struct server *s) {
    char first[64], second[64], name[64];
    hear(s, name, first);
    hear(s, name, second);
    answer(s, first, "\"late\"");
    answer(s, second, "\"right\"");
    answer_all(s);
}

static void test_timeout_then_late_answer(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    json_t *ret = NULL;
    struct qmp *q = begin(&s, serve_late);
    assert_int_equal(qmp_execute(q, "slow", NULL, &ret, SHORT, &err), -1);
    assert_null(ret);
    assert_non_null(strstr(err.desc, "did not answer slow in time"));
    error_clear(&err);
    assert_int_equal(qmp_execute(q, "next", NULL, &ret, LONG, &err), 0);
    assert_string_equal(json_string_value(ret), "right");
    json_decref(ret);
    finish(&s, q);
}

static void serve_flood(struct server *s) {
    while (send(s->fd, "{\"event\": \"A\"}\r\n", 16, MSG_NOSIGNAL) > 0) {
    }
}

static void test_flood_ends_at_the_timeout(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    struct qmp *q = begin(&s, serve_flood);
    assert_int_equal(qmp_execute(q, "x", NULL, NULL, SHORT, &err), -1);
    assert_non_null(strstr(err.desc, "in time"));
    finish(&s, q);
}

static void serve_error(struct server *s) {
    char name[64], id[64], text[256];
    hear(s, name, id);
    snprintf(text, sizeof(text),
             "{\"id\": \"%s\", \"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"Device 'x'\\n is not 100%% "
             "there\"}}\n",
             id);
    say(s, text);
    hear(s, name, id);
    snprintf(text, sizeof(text), "{\"id\": \"%s\", \"error\": 7}\n", id);
    say(s, text);
    answer_all(s);
}

static void test_refusal(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    struct qmp *q = begin(&s, serve_error);
    assert_int_equal(qmp_execute(q, "frob", json_pack("{s:i}", "a", 1), NULL, LONG, &err), -1);
    assert_string_equal(err.desc, "QEMU refused frob: Device 'x'  is not 100% there");
    assert_string_equal(qmp_refusal(q), "DeviceNotFound");
    error_clear(&err);
    assert_int_equal(qmp_execute(q, "frob", NULL, NULL, LONG, &err), -1);
    assert_string_equal(err.desc, "QEMU refused frob: (no reason given)");
    error_clear(&err);
    assert_int_equal(qmp_execute(q, "fine", NULL, NULL, LONG, &err), 0);
    assert_string_equal(qmp_refusal(q), "");
    finish(&s, q);
}

static void serve_fd(struct server *s) {
    char name[64], id[64];
    if (hear(s, name, id) && strcmp(name, "getfd") == 0 && s->passed >= 0) {
        assert_int_equal(write(s->passed, "hello", 5), 5);
        close(s->passed);
    }
    answer(s, id, "{}");
    answer_all(s);
}

static void test_passes_descriptor(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    int ends[2];
    char text[8] = { 0 };
    assert_int_equal(pipe(ends), 0);
    struct qmp *q = begin(&s, serve_fd);
    assert_int_equal(qmp_getfd(q, ends[1], "wire", &err), 0);
    close(ends[1]);
    assert_int_equal(read(ends[0], text, sizeof(text)), 5);
    assert_string_equal(text, "hello");
    assert_int_equal(read(ends[0], text, sizeof(text)), 0); /* every copy is closed */
    close(ends[0]);
    finish(&s, q);
}

static void serve_resync(struct server *s) {
    char name[64], id[64];
    hear(s, name, id); /* what the parent was cut off in */
    say(s, "{\"event\": \"STOP\"}\r\n{\"return\": {\"rest\": ");
    hear(s, name, id);
    say(s, "1}}\r\n{\"id\": \"godwit-1-1\", \"return\": {}}\r\n");
    for (int i = 0; i < 500; i++) {
        say(s, "rubbish\r\n");
    }
    answer(s, id, "{}");
    answer_all(s);
}

/* The parent read half a line and stopped there; a child forked from it goes on with its copy. */
static void test_resync_in_child(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    struct qmp *q = begin(&s, serve_resync);
    assert_int_equal(qmp_execute(q, "x", NULL, NULL, SHORT, &err), -1);
    pid_t child = fork();
    if (child == 0) {
        struct error e = { 0 };
        bool good = qmp_resync(q, LONG, &e) == 0 && qmp_execute(q, "y", NULL, NULL, LONG, &e) == 0;
        _exit(good ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    finish(&s, q);
    assert_true(s.saw_reset);
}

/* Reads nothing until it is told to. */
static void serve_deaf(struct server *s) {
    while (!atomic_load(&s->may_read)) {
        clock_sleep(CLOCK_MS);
    }
    answer_all(s);
}

static void test_stuck_in_the_middle(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    char *big = malloc(4 << 20);
    memset(big, 'a', 4 << 20);
    big[(4 << 20) - 1] = '\0';
    struct qmp *q = begin(&s, serve_deaf);
    assert_int_equal(qmp_execute(q, "x", json_pack("{s:s}", "a", big), NULL, SHORT / 2, &err), -1);
    assert_non_null(strstr(err.desc, "does not read"));
    error_clear(&err);
    assert_int_equal(qmp_execute(q, "y", NULL, NULL, SHORT, &err), -1);
    assert_non_null(strstr(err.desc, "was not sent"));
    error_clear(&err);
    atomic_store(&s.may_read, true);
    assert_int_equal(qmp_resync(q, LONG, &err), 0);
    assert_int_equal(qmp_execute(q, "y", NULL, NULL, LONG, &err), 0);
    free(big);
    finish(&s, q);
}

/* A monitor has one client at a time: the next waits in the backlog, and past it is not even let in. */
static void test_busy_monitor(void **state) {
    (void)state;
    char dir[] = "/tmp/godwit-test-XXXXXX";
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct error err = { 0 };
    assert_non_null(mkdtemp(dir));
    snprintf(a.sun_path, sizeof(a.sun_path), "%s/qmp", dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 0), 0);

    struct qmp *q = qmp_connect(a.sun_path, SHORT, &err);
    assert_non_null(q);
    assert_int_equal(qmp_peer_pid(q), getpid());
    assert_int_equal(qmp_negotiate(q, SHORT, &err), -1);
    assert_non_null(strstr(err.desc, "another client (libvirt?) holds the monitor"));
    error_clear(&err);
    assert_null(qmp_connect(a.sun_path, SHORT, &err));
    assert_non_null(strstr(err.desc, "another client (libvirt?) holds the monitor"));
    error_clear(&err);
    qmp_close(q);

    close(fd);
    assert_null(qmp_connect(a.sun_path, SHORT, &err));
    assert_non_null(strstr(err.desc, "cannot connect"));
    unlink(a.sun_path);
    rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greeting),
        cmocka_unit_test(test_split_lines),
        cmocka_unit_test(test_events_between),
        cmocka_unit_test(test_wait_event),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_too_much_garbage),
        cmocka_unit_test(test_long_line),
        cmocka_unit_test(test_end_of_file),
        cmocka_unit_test(test_timeout_then_late_answer),
        cmocka_unit_test(test_flood_ends_at_the_timeout),
        cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_passes_descriptor),
        cmocka_unit_test(test_resync_in_child),
        cmocka_unit_test(test_stuck_in_the_middle),
        cmocka_unit_test(test_busy_monitor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
