/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP client against a server that behaves badly in every way that we could think of. */
#include "qmp_server.h"

#include "base/cleanup.h"
#include "vmm/qemu/query.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define GREETING                                                                                                       \
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}, \"capabilities\": []}}\r\n"

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
    assert_true(qmp_takes_fds(q));
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
    char names[8][64];
};

static const char *const names[] = { "STOP", "RESUME", "MIGRATION", NULL };

static void on_event(void *opaque, const struct qmp_event *e) {
    struct seen *seen = opaque;
    struct error err = { 0 };
    assert_true(e->when > 0);
    assert_true(seen->count < 8);
    snprintf(seen->names[seen->count++], sizeof(seen->names[0]), "%s %s", e->name, e->word);
    if (strcmp(e->word, "call") == 0 && qmp_execute(seen->q, "inner", NULL, NULL, LONG, &err) == 0) {
        seen->executed++;
    }
}

static void serve_events(struct server *s) {
    char name[64], id[64];
    hear(s, name, id);
    say(s, "{\"event\": \"STOP\", \"data\": {\"reason\": \"call\"}}\r\n{\"event\": \"RESUME\", \"data\": 7}\r\n");
    say(s, "{\"event\": \"VNC_CONNECTED\", \"data\": {\"reason\": \"call\"}}\r\n");
    answer(s, id, "1");
    hear(s, name, id);
    say(s,
        "{\"event\": \"MIGRATION\", \"data\": {\"status\": \"a\\nword that is longer than what is kept of it\"}}\r\n");
    answer(s, id, "{}");
    answer_all(s);
}

static void test_events_between(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    struct seen seen = { 0 };
    seen.q = begin(&s, serve_events);
    qmp_on_event(seen.q, names, on_event, &seen);
    assert_int_equal(qmp_execute(seen.q, "outer", NULL, NULL, LONG, &err), 0);
    assert_int_equal(seen.executed, 1);
    assert_int_equal(seen.count, 3);
    assert_string_equal(seen.names[0], "STOP call");
    assert_string_equal(seen.names[1], "RESUME ");
    assert_string_equal(seen.names[2], "MIGRATION a word that is longer than what");
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
    qmp_on_event(q, names, on_event, &seen);
    assert_int_equal(qmp_execute(q, "x", NULL, NULL, LONG, &err), 0);
    while (seen.count == 0) {
        assert_true(qmp_wait_event(q, LONG, &err) >= 0);
    }
    assert_string_equal(seen.names[0], "MIGRATION ");
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

/* What a sanitizer keeps of freed memory, to catch who uses it. */
#ifdef __SANITIZE_ADDRESS__
#define QUARANTINE (512 << 10)
#else
#define QUARANTINE 0
#endif

/* KiB that this process has ever used. */
static long peak_memory(void) {
    struct rusage u;
    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    return u.ru_maxrss;
}

static void serve_long_line(struct server *s) {
    char *piece = malloc(1 << 20);
    memset(piece, 'x', 1 << 20);
    piece[(1 << 20) - 1] = '\0';
    char name[64], id[64], next[64];
    hear(s, name, id);
    say(s, "{\"return\": \"");
    for (int i = 0; i < 18; i++) {
        say(s, piece);
    }
    free(piece);
    hear(s, name, next);
    char end[128];
    snprintf(end, sizeof(end), "\", \"id\": \"%s\"}\n", id);
    say(s, end);
    answer(s, next, "3");
    answer_all(s);
}

static void test_long_line(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    json_t *ret = NULL;
    struct qmp *q = begin(&s, serve_long_line);
    long before = peak_memory();
    assert_int_equal(qmp_execute(q, "x", NULL, NULL, LONG, &err), -1);
    assert_non_null(strstr(err.desc, "longer than 1024 KiB"));
    error_clear(&err);
    assert_int_equal(qmp_execute(q, "y", NULL, &ret, LONG, &err), 0);
    assert_int_equal(json_integer_value(ret), 3);
    json_decref(ret);
    assert_true(peak_memory() - before < (8 << 10) + QUARANTINE);
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

static void serve_power_off(struct server *s) {
    char name[64], id[64];
    hear(s, name, id);
    say(s, "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\r\n");
    shutdown(s->fd, SHUT_RDWR);
}

static void serve_resumed(struct server *s) {
    char name[64], id[64];
    hear(s, name, id);
    say(s, "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\r\n");
    say(s, "{\"event\": \"RESUME\"}\r\n"); /* under -no-shutdown, let run again: now it ends of something else */
    shutdown(s->fd, SHUT_RDWR);
}

static void serve_quit(struct server *s) {
    say(s, "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": false, \"reason\": \"host-qmp-quit\"}}\r\n");
    shutdown(s->fd, SHUT_RDWR);
    atomic_store(&s->may_read, true);
}

static void test_why_it_ended(void **state) {
    (void)state;
    static void (*const serve[])(struct server *) = { serve_power_off, serve_resumed, serve_quit };
    static const char *const texts[] = { "x: QEMU went away: the guest was powered off",
                                         "x: QEMU went away (its monitor closed the connection)",
                                         "QEMU went away: it was told to quit" };
    for (size_t i = 0; i < 3; i++) {
        struct server s;
        struct error err = { 0 };
        struct qmp *q = begin(&s, serve[i]);
        while (i == 2 && !atomic_load(&s.may_read)) {
            clock_sleep(CLOCK_MS); /* it has gone before anything is sent to it */
        }
        assert_int_equal(qmp_execute(q, "x", NULL, NULL, LONG, &err), -1);
        assert_string_equal(err.desc, texts[i]);
        assert_true(qmp_gone(q));
        finish(&s, q);
    }
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

/* Events of 332 KiB while a command is under way: 150 that nobody has asked for, and 150 that are known. */
static void serve_large_events(struct server *s) {
    char name[64], id[64], *member = malloc(332 << 10);
    hear(s, name, id);
    for (size_t i = 0; i + 17 < 332 << 10; i += 16) {
        memcpy(member + i, "\"fifteen bytes\",", 17);
    }
    for (int i = 0; i < 150; i++) {
        say(s, i % 2 ? "{\"event\": \"MIGRATION\", \"data\": [" : "{\"event\": \"NONSENSE\", \"data\": [");
        say(s, member);
        say(s, "1]}\r\n");
    }
    free(member);
    answer(s, id, "{}");
    answer_all(s);
}

static void count_event(void *opaque, const struct qmp_event *e) {
    int *count = opaque;
    assert_string_equal(e->name, "MIGRATION");
    ++*count;
}

static void test_events_take_no_memory(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    int count = 0;
    struct qmp *q = begin(&s, serve_large_events);
    qmp_on_event(q, names, count_event, &count);
    long before = peak_memory();
    assert_int_equal(qmp_execute(q, "x", NULL, NULL, 5 * LONG, &err), 0); /* 50 MB of JSON */
    assert_int_equal(count, EVENTS_MAX);                                  /* of 75 */
    print_message("150 events of 332 KiB: %ld KiB more at the most\n", peak_memory() - before);
    assert_true(peak_memory() - before < (40 << 10) + QUARANTINE);
    finish(&s, q);
}

static void serve_many_events(struct server *s) {
    char name[64], id[64];
    hear(s, name, id);
    say(s, "{\"event\": \"STOP\"}\r\n{\"event\": \"RESUME\"}\r\n");
    for (int i = 0; i < 3 * EVENTS_MAX; i++) {
        say(s, i == 2 * EVENTS_MAX ? "{\"event\": \"MIGRATION\", \"data\": {\"action\": \"stop\"}}\r\n"
                                   : "{\"event\": \"MIGRATION\", \"data\": {\"action\": \"report\"}}\r\n");
    }
    answer(s, id, "{}");
}

struct kinds {
    int count;
    char text[256]; /* where another kind came than before: its name and action */
};

static void note_kind(void *opaque, const struct qmp_event *e) {
    struct kinds *k = opaque;
    char kind[64];
    snprintf(kind, sizeof(kind), "%s %s;", e->name, e->action);
    size_t used = strlen(k->text), n = strlen(kind);
    if (used < n || strcmp(k->text + used - n, kind) != 0) {
        snprintf(k->text + used, sizeof(k->text) - used, "%s", kind);
    }
    k->count++;
}

/* What is said often does not push out what is said once. */
static void test_many_events_of_one_kind(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    struct kinds kinds = { 0 };
    struct qmp *q = begin(&s, serve_many_events);
    qmp_on_event(q, names, note_kind, &kinds);
    assert_int_equal(qmp_execute(q, "x", NULL, NULL, LONG, &err), 0);
    assert_string_equal(kinds.text, "STOP ;RESUME ;MIGRATION stop;MIGRATION report;");
    assert_int_equal(kinds.count, EVENTS_MAX);
    finish(&s, q);
}

/* The largest answers that are taken, by command. */
static void serve_answers(struct server *s) {
    char name[64], id[64], *text = malloc(5 << 20);
    while (hear(s, name, id)) {
        size_t size = strcmp(name, "query-named-block-nodes") == 0 ? (size_t)3 << 20 : (size_t)900 << 10;
        int n = snprintf(text, 64, "{\"return\": \"");
        memset(text + n, 'b', size);
        snprintf(text + n + (int)size, 128, "\", \"id\": \"%s\"}\r\n", id);
        say(s, text);
    }
    free(text);
}

static void test_large_answers(void **state) {
    (void)state;
    struct server s;
    struct error err = { 0 };
    json_t *ret = NULL;
    struct qmp *q = begin(&s, serve_answers);
    assert_int_equal(qmp_execute(q, "query-named-block-nodes", NULL, &ret, LONG, &err), 0);
    assert_int_equal(json_string_length(ret), 3 << 20);
    json_decref(ret);
    assert_int_equal(qmp_execute(q, "query-cpus-fast", NULL, &ret, LONG, &err), 0);
    assert_int_equal(json_string_length(ret), 900 << 10);
    json_decref(ret);
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

    char where[128];
    snprintf(where, sizeof(where), "unix:%s", a.sun_path);
    assert_null(qmp_connect(where, SHORT, &err));
    assert_non_null(strstr(err.desc, "holds the monitor"));
    error_clear(&err);

    close(fd);
    assert_null(qmp_connect(a.sun_path, SHORT, &err));
    assert_non_null(strstr(err.desc, "cannot connect"));
    unlink(a.sun_path);
    rmdir(dir);
}

static void test_over_tcp(void **state) {
    (void)state;
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(a);
    struct error err = { 0 };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, size), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    char where[64];
    snprintf(where, sizeof(where), "tcp:127.0.0.1:%d", ntohs(a.sin_port));
    struct qmp *q = qmp_connect(where, LONG, &err);
    assert_non_null(q);
    struct server s = { .fd = accept(fd, NULL, NULL), .serve = serve_greeting, .passed = -1 };
    assert_int_equal(pthread_create(&s.thread, NULL, run_server, &s), 0);
    assert_int_equal(qmp_negotiate(q, LONG, &err), 0);
    assert_int_equal(qmp_peer_pid(q), 0);
    assert_false(qmp_takes_fds(q));
    finish(&s, q);
    close(fd);
    assert_null(qmp_connect(where, LONG, &err));
    assert_non_null(strstr(err.desc, "cannot connect to the QMP monitor tcp:127.0.0.1:"));
    static const char *const wrong[] = { "tcp:", "tcp:host", "tcp::77", "tcp:host:" };
    for (size_t i = 0; i < 4; i++) {
        error_clear(&err);
        assert_null(qmp_connect(wrong[i], LONG, &err));
        assert_int_equal(err.class, ERROR_USAGE);
        assert_non_null(strstr(err.desc, "PATH, unix:PATH or tcp:HOST:PORT"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_take_no_memory), /* before others have used more */
        cmocka_unit_test(test_greeting),
        cmocka_unit_test(test_split_lines),
        cmocka_unit_test(test_events_between),
        cmocka_unit_test(test_wait_event),
        cmocka_unit_test(test_many_events_of_one_kind),
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
        cmocka_unit_test(test_large_answers),
        cmocka_unit_test(test_busy_monitor),
        cmocka_unit_test(test_why_it_ended),
        cmocka_unit_test(test_over_tcp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
