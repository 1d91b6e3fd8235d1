/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/control.h"
#include "support.h"
#include "wire/connect.h"

#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the migration behind the socket was asked. Calls come from the control thread. */
struct asked {
    _Atomic int queries, cancels;
    _Atomic int64_t bandwidth;
    _Atomic bool refuse;
};

static json_t *fake_query(void *opaque) {
    struct asked *asked = opaque;
    atomic_fetch_add(&asked->queries, 1);
    return json_pack("{s:s}", "status", "active");
}

static json_t *fake_parameters(void *opaque) {
    struct asked *asked = opaque;
    return json_pack("{s:I}", "max-bandwidth", (json_int_t)atomic_load(&asked->bandwidth));
}

static int fake_set(void *opaque, json_t *object, struct error *err) {
    struct asked *asked = opaque;
    json_t *value = json_object_get(object, "max-bandwidth");
    if (!json_is_integer(value)) {
        return error_set(err, ERROR_USAGE, "no good: \xc3"); /* a text cut in the middle of a character */
    }
    atomic_store(&asked->bandwidth, json_integer_value(value));
    return 0;
}

static int fake_cancel(void *opaque, struct error *err) {
    struct asked *asked = opaque;
    if (atomic_load(&asked->refuse)) {
        return error_set(err, ERROR_REFUSED, "too late");
    }
    atomic_fetch_add(&asked->cancels, 1);
    return 0;
}

static const struct control_ops fake_ops = { fake_query, fake_parameters, fake_set, fake_cancel };

static struct asked asked;
static struct control *control;
static struct address where;

static void open_control(void **state) {
    struct error err = { 0 };
    memset(&asked, 0, sizeof(asked));
    where = (struct address){ .kind = ADDRESS_UNIX };
    snprintf(where.host, sizeof(where.host), "%s/control", (const char *)*state);
    control = control_open(where.host, &fake_ops, &asked, &err);
    assert_ok(control != NULL, &err);
}

static int connect_client(void) {
    struct error err = { 0 };
    int fd = connect_to(&where, &(struct connect_how){ .timeout = 10 * CLOCK_S }, &err);
    assert_ok(fd >= 0, &err);
    return fd;
}

static void say(int fd, const char *text) {
    size_t size = strlen(text);
    assert_int_equal(send(fd, text, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* Reads a line byte by byte; false at the end of the connection. */
static bool read_line(int fd, char *line, size_t size) {
    size_t n = 0;
    while (n + 1 < size) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        assert_int_equal(poll(&p, 1, 40000), 1);
        if (recv(fd, line + n, 1, 0) <= 0) {
            return false;
        }
        if (line[n++] == '\n') {
            break;
        }
    }
    line[n] = '\0';
    return true;
}

static json_t *hear(int fd) {
    static char line[65536];
    assert_true(read_line(fd, line, sizeof(line)));
    assert_string_equal(line + strlen(line) - 2, "\r\n");
    json_error_t why;
    json_t *message = json_loads(line, 0, &why);
    assert_non_null(message);
    return message;
}

static json_t *ask(int fd, const char *text) {
    say(fd, text);
    return hear(fd);
}

static void expect_return(int fd, const char *text) {
    json_t *answer = ask(fd, text);
    assert_non_null(json_object_get(answer, "return"));
    json_decref(answer);
}

static void expect_failure(int fd, const char *text, const char *class, const char *desc) {
    json_t *answer = ask(fd, text), *error = json_object_get(answer, "error");
    assert_string_equal(json_string_value(json_object_get(error, "class")), class);
    assert_non_null(strstr(json_string_value(json_object_get(error, "desc")), desc));
    json_decref(answer);
}

static int greeted_client(void) {
    int fd = connect_client();
    json_t *greeting = hear(fd);
    json_t *qmp = json_object_get(greeting, "QMP");
    assert_true(json_is_array(json_object_get(qmp, "capabilities")));
    json_t *version = json_object_get(json_object_get(qmp, "version"), "qemu");
    assert_true(json_is_integer(json_object_get(version, "major")));
    json_decref(greeting);
    return fd;
}

static int negotiated_client(void) {
    int fd = greeted_client();
    expect_return(fd, "{\"execute\": \"qmp_capabilities\"}\n");
    return fd;
}

static void negotiation_comes_first(void **state) {
    open_control(state);
    int fd = greeted_client();
    expect_failure(fd, "{\"execute\": \"query-migrate\"}\n", "CommandNotFound", "qmp_capabilities");
    expect_return(fd, "{\"execute\": \"qmp_capabilities\"}\n");
    expect_return(fd, "{\"execute\": \"query-migrate\"}\n");
    assert_int_equal(atomic_load(&asked.queries), 1);
    close(fd);
    control_close(control);
    assert_int_equal(access(where.host, F_OK), -1); /* the socket is gone */
}

static void commands(void **state) {
    open_control(state);
    int fd = negotiated_client();
    json_t *answer = ask(fd, "{\"execute\": \"query-migrate\"}\n");
    assert_string_equal(json_string_value(json_object_get(json_object_get(answer, "return"), "status")), "active");
    json_decref(answer);
    expect_return(fd, "{\"execute\": \"migrate-set-parameters\", \"arguments\": {\"max-bandwidth\": 12345}}\n");
    answer = ask(fd, "{\"execute\": \"query-migrate-parameters\"}\n");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(answer, "return"), "max-bandwidth")), 12345);
    json_decref(answer);
    expect_failure(fd, "{\"execute\": \"migrate-set-parameters\", \"arguments\": {}}\n", "GenericError", "no good: ?");
    expect_failure(fd, "{\"execute\": \"migrate-set-parameters\"}\n", "GenericError", "no good");
    expect_return(fd, "{\"execute\": \"migrate_cancel\"}\n");
    assert_int_equal(atomic_load(&asked.cancels), 1);
    atomic_store(&asked.refuse, true);
    expect_failure(fd, "{\"execute\": \"migrate_cancel\"}\n", "GenericError", "too late");
    answer = ask(fd, "{\"execute\": \"query-commands\"}\n");
    assert_true(json_array_size(json_object_get(answer, "return")) >= 7);
    json_decref(answer);
    expect_return(fd, "{\"execute\": \"query-version\"}\n");
    close(fd);
    control_close(control);
}

static void unknown_commands(void **state) {
    open_control(state);
    int fd = negotiated_client();
    expect_failure(fd, "{\"execute\": \"quit\"}\n", "CommandNotFound", "The command quit has not been found");
    expect_failure(fd, "{\"execute\": \"\"}\n", "CommandNotFound", "has not been found");
    /* a long name is cut, and the cut goes through a character: there must be an answer all the same */
    char text[400] = "{\"execute\": \"";
    memset(text + strlen(text), 'x', 99);
    strncat(text, "\xc3\xa4\xc3\xa4\xc3\xa4\"}\n", 20);
    expect_failure(fd, text, "CommandNotFound", "xxx? has not been found");
    close(fd);
    control_close(control);
}

static void what_is_no_request(void **state) {
    open_control(state);
    int fd = negotiated_client();
    static const char *const texts[] = { "nonsense\n",
                                         "[]\n",
                                         "[{\"execute\": \"query-migrate\"}]\n",
                                         "\"x\"\n",
                                         "12\n",
                                         "{}\n",
                                         "{ \n",
                                         "{\"execute\": 5}\n",
                                         "\xff\xfe\n",
                                         "{\"exec-oob\": \"quit\"}\n" };
    for (size_t i = 0; i < COUNT(texts); i++) {
        expect_failure(fd, texts[i], "GenericError", "expected a JSON object");
    }
    say(fd, "\n\r\n\n"); /* blank lines are no requests */
    expect_return(fd, "{\"execute\": \"query-migrate\"}\r\n");
    close(fd);
    control_close(control);
}

static void the_id_comes_back(void **state) {
    open_control(state);
    int fd = negotiated_client();
    static const char *const ids[] = { "7", "\"text\"", "null", "{\"a\": [1, 2]}" };
    for (size_t i = 0; i < COUNT(ids); i++) {
        for (int good = 0; good < 2; good++) {
            char text[200];
            snprintf(text, sizeof(text), "{\"execute\": \"%s\", \"id\": %s}\n", good ? "query-migrate" : "x", ids[i]);
            json_t *answer = ask(fd, text), *want = json_loads(ids[i], JSON_DECODE_ANY, NULL);
            assert_true(json_equal(json_object_get(answer, "id"), want));
            json_decref(want);
            json_decref(answer);
        }
    }
    json_t *answer = ask(fd, "{\"execute\": \"query-migrate\"}\n");
    assert_null(json_object_get(answer, "id"));
    json_decref(answer);
    close(fd);
    control_close(control);
}

static void lines_in_pieces_and_in_one(void **state) {
    open_control(state);
    int fd = negotiated_client();
    static const char request[] = "{\"execute\": \"query-migrate\", \"id\": 1}\r\n";
    for (size_t i = 0; i < sizeof(request) - 1; i++) {
        char byte[2] = { request[i], '\0' };
        say(fd, byte);
    }
    json_decref(hear(fd));
    say(fd, "{\"execute\": \"query-migrate\", \"id\": 1}\n{\"execute\": \"query-migrate\", \"id\": 2}\n{\"execute\": "
            "\"que");
    for (int id = 1; id <= 3; id++) {
        json_t *answer = hear(fd);
        assert_int_equal(json_integer_value(json_object_get(answer, "id")), id);
        json_decref(answer);
        if (id == 2) {
            say(fd, "ry-migrate\", \"id\": 3}\n");
        }
    }
    close(fd);
    control_close(control);
}

/* The client is let go, and the next one is served. */
static void an_oversized_line_ends_the_client(void **state) {
    open_control(state);
    int fd = negotiated_client();
    static char line[70000];
    memset(line, 'x', sizeof(line));
    ssize_t sent = send(fd, line, sizeof(line), MSG_NOSIGNAL); /* it may be cut off before all of it has gone */
    assert_true(sent != 0);
    char answer[100];
    assert_false(read_line(fd, answer, sizeof(answer)));
    close(fd);
    fd = negotiated_client();
    expect_return(fd, "{\"execute\": \"query-migrate\"}\n");
    close(fd);
    control_close(control);
}

static void the_longest_line_is_served(void **state) {
    open_control(state);
    int fd = negotiated_client();
    static char line[65537];
    memset(line, ' ', sizeof(line) - 1);
    static const char request[] = "{\"execute\": \"query-migrate\"";
    memcpy(line, request, sizeof(request) - 1);
    line[65534] = '}';
    line[65535] = '\n';
    expect_return(fd, line);
    close(fd);
    control_close(control);
}

static void clients_one_after_the_other(void **state) {
    open_control(state);
    for (int i = 0; i < 3; i++) {
        int fd = greeted_client();
        /* nothing of the one before is left over: neither its negotiation nor its half line */
        expect_failure(fd, "{\"execute\": \"query-migrate\"}\n", "CommandNotFound", "qmp_capabilities");
        expect_return(fd, "{\"execute\": \"qmp_capabilities\"}\n");
        say(fd, "{\"execute\": ");
        close(fd);
    }
    int first = negotiated_client(), second = connect_client();
    expect_return(first, "{\"execute\": \"query-migrate\"}\n");
    struct pollfd p = { .fd = second, .events = POLLIN };
    assert_int_equal(poll(&p, 1, 0), 0); /* like QEMU: it waits in the backlog */
    close(first);
    json_decref(hear(second));
    expect_return(second, "{\"execute\": \"qmp_capabilities\"}\n");
    close(second);
    control_close(control);
}

/* A client that asks and never reads: it must not hold the thread, and control_close() must come back. */
static void a_client_that_does_not_read(void **state) {
    open_control(state);
    int fd = greeted_client();
    static const char request[] = "{\"execute\": \"qmp_capabilities\"}\n";
    ssize_t n = 1;
    while (n > 0) {
        struct pollfd p = { .fd = fd, .events = POLLOUT };
        n = poll(&p, 1, 40000) == 1 ? send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    }
    assert_int_equal(n, -1); /* it was shown the door */
    /* whatever it does read are whole lines */
    char line[200];
    while (read_line(fd, line, sizeof(line))) {
        assert_string_equal(line, "{\"return\":{}}\r\n");
    }
    close(fd);
    fd = negotiated_client();
    control_close(control); /* with a client connected */
    assert_false(read_line(fd, line, sizeof(line)));
    close(fd);
}

static void where_it_cannot_listen(void **state) {
    struct error err = { 0 };
    char path[300];
    (void)state;
    assert_null(control_open("/no/such/folder/control", &fake_ops, &asked, &err));
    expect_error(&err, ERROR_SYSTEM, "cannot listen", "control_open");
    memset(path, 'x', sizeof(path));
    path[299] = '\0';
    assert_null(control_open(path, &fake_ops, &asked, &err));
    expect_error(&err, ERROR_USAGE, "too long", "control_open");
    control_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(negotiation_comes_first),
        cmocka_unit_test(commands),
        cmocka_unit_test(unknown_commands),
        cmocka_unit_test(what_is_no_request),
        cmocka_unit_test(the_id_comes_back),
        cmocka_unit_test(lines_in_pieces_and_in_one),
        cmocka_unit_test(an_oversized_line_ends_the_client),
        cmocka_unit_test(the_longest_line_is_served),
        cmocka_unit_test(clients_one_after_the_other),
        cmocka_unit_test(a_client_that_does_not_read),
        cmocka_unit_test(where_it_cannot_listen),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
