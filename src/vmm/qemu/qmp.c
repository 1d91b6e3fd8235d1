/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/qmp.h"

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/log.h"
#include "vmm/qemu/line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* More garbage in a row than this is no monitor. A resync may meet all that was queued for a killed parent. */
#define GARBAGE_MAX 64
#define GARBAGE_MAX_RESYNC 100000
#define EVENTS_MAX 4096

struct event {
    struct event *next;
    json_t *message; /* owned */
    int64_t when;
};

struct qmp {
    struct line_socket line;
    struct qmp_version version;
    uint64_t last_id;
    unsigned garbage; /* lines in a row that were no QMP message */
    unsigned garbage_max;
    char refusal[64];

    struct event *first, **last; /* read, not yet handed out */
    unsigned event_count;
    bool dispatching; /* the callback is running and may call us: it is not entered again */
    qmp_event_fn *callback;
    void *opaque;
};

static struct qmp *create(struct error *err) {
    struct qmp *q = calloc(1, sizeof(*q));
    if (q == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory for a QMP connection");
        return NULL;
    }
    q->line.fd = -1;
    q->last = &q->first;
    q->garbage_max = GARBAGE_MAX;
    return q;
}

struct qmp *qmp_connect(const char *path, int64_t timeout_ns, struct error *err) {
    struct qmp *q = create(err);
    if (q != NULL && line_connect(&q->line, path, clock_now() + timeout_ns, err) < 0) {
        qmp_close(q);
        return NULL;
    }
    return q;
}

struct qmp *qmp_from_fd(int fd, struct error *err) {
    struct qmp *q = create(err);
    if (q == NULL) {
        close(fd);
        return NULL;
    }
    line_from_fd(&q->line, fd);
    return q;
}

static struct event *take_event(struct qmp *q) {
    struct event *e = q->first;
    if (e != NULL) {
        q->first = e->next;
        q->event_count--;
        if (q->first == NULL) {
            q->last = &q->first;
        }
    }
    return e;
}

static void free_event(struct event *e) {
    json_decref(e->message);
    free(e);
}

static void drop_events(struct qmp *q) {
    for (struct event *e; (e = take_event(q)) != NULL;) {
        free_event(e);
    }
}

void qmp_close(struct qmp *q) {
    if (q != NULL) {
        drop_events(q);
        line_close(&q->line);
        free(q);
    }
}

struct qmp_version qmp_version(const struct qmp *q) {
    return q->version;
}

pid_t qmp_peer_pid(const struct qmp *q) {
    return line_peer(&q->line);
}

int qmp_poll_fd(const struct qmp *q) {
    return q->line.fd;
}

void qmp_on_event(struct qmp *q, qmp_event_fn *callback, void *opaque) {
    q->callback = callback;
    q->opaque = opaque;
}

bool qmp_gone(const struct qmp *q) {
    return q->line.ended;
}

const char *qmp_refusal(const struct qmp *q) {
    return q->refusal;
}

/* Keeps an event for dispatch(); takes the reference. Too many: the oldest goes, pollers look at the state anyway. */
static void queue_event(struct qmp *q, json_t *message) {
    struct event *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        json_decref(message);
        return;
    }
    if (q->event_count >= EVENTS_MAX) {
        free_event(take_event(q));
    }
    *e = (struct event){ .message = message, .when = clock_now() };
    *q->last = e;
    q->last = &e->next;
    q->event_count++;
}

static void dispatch(struct qmp *q) {
    if (q->dispatching) {
        return;
    }
    q->dispatching = true;
    for (struct event *e; (e = take_event(q)) != NULL;) {
        const char *name = json_string_value(json_object_get(e->message, "event"));
        log_debug("QEMU event %s", name);
        if (q->callback != NULL) {
            q->callback(q->opaque, name, json_object_get(e->message, "data"), e->when);
        }
        free_event(e);
    }
    q->dispatching = false;
}

/* A line as a JSON object, or NULL. QEMU writes sizes as unsigned 64-bit numbers, which jansson takes only as reals. */
static json_t *parse(const char *line, size_t length) {
    json_t *message = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
    if (message == NULL) {
        message = json_loadb(line, length, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL);
    }
    if (message != NULL && !json_is_object(message)) {
        json_decref(message);
        return NULL;
    }
    return message;
}

/* Reads the next message that is no event; events are queued. 1: *message is a new reference; 0: deadline; -1. With
 * `or_event` it also returns 1, with *message NULL, once an event has been queued. */
static int next_message(struct qmp *q, json_t **message, bool or_event, int64_t deadline, struct error *err) {
    *message = NULL;
    for (;;) {
        char *line;
        size_t length;
        int n = line_read(&q->line, &line, &length, deadline, err);
        if (n <= 0) {
            return n;
        }
        if (length == 0) {
            continue;
        }
        json_t *m = parse(line, length);
        if (m == NULL) {
            log_debug("QEMU's monitor sent %zu bytes that are no QMP message", length);
            if (++q->garbage > q->garbage_max) {
                q->garbage = 0;
                return error_set(err, ERROR_VMM,
                                 "the monitor does not speak QMP: %u lines of garbage (is it a human "
                                 "monitor, or has it pretty=on?)",
                                 q->garbage_max);
            }
            continue;
        }
        q->garbage = 0;
        if (json_is_string(json_object_get(m, "event"))) {
            queue_event(q, m);
            if (or_event) {
                return 1;
            }
            continue;
        }
        *message = m;
        return 1;
    }
}

static int version_part(json_t *version, const char *name) {
    json_int_t n = json_integer_value(json_object_get(version, name));
    return n >= 0 && n <= 9999 ? (int)n : 0;
}

static int read_greeting(struct qmp *q, int64_t deadline, struct error *err) {
    for (;;) {
        json_t *message;
        int n = next_message(q, &message, false, deadline, err);
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            return error_set(err, ERROR_VMM,
                             "the monitor accepts the connection but says nothing: another client "
                             "(libvirt?) holds the monitor: give godwit one of its own");
        }
        json_t *greeting = json_object_get(message, "QMP");
        json_t *version = json_object_get(json_object_get(greeting, "version"), "qemu");
        q->version = (struct qmp_version){ version_part(version, "major"), version_part(version, "minor"),
                                           version_part(version, "micro") };
        bool found = json_is_object(greeting);
        json_decref(message);
        if (found) {
            return 0;
        }
    }
}

int qmp_negotiate(struct qmp *q, int64_t timeout_ns, struct error *err) {
    int64_t deadline = clock_now() + timeout_ns;
    if (read_greeting(q, deadline, err) < 0) {
        return -1;
    }
    int64_t left = deadline - clock_now();
    return qmp_execute(q, "qmp_capabilities", NULL, NULL, left > CLOCK_S ? left : CLOCK_S, err);
}

static void new_id(struct qmp *q, char *id, size_t size) {
    snprintf(id, size, "godwit-%ld-%llu", (long)getpid(), (unsigned long long)++q->last_id);
}

/* Writes a command under `id`; takes `args`. With `reset`, a byte that no JSON has comes first: QEMU's parser then
 * drops whatever half a command it holds (QMP specification, "Forcing the JSON parser into known-good state"). */
static int send_command(struct qmp *q, const char *command, json_t *args, const char *id, int pass_fd, bool reset,
                        int64_t deadline, struct error *err) {
    json_t *message = args ? json_pack("{s:s, s:o, s:s}", "execute", command, "arguments", args, "id", id)
                           : json_pack("{s:s, s:s}", "execute", command, "id", id);
    CLEANUP_FREE char *body = message ? json_dumps(message, JSON_COMPACT) : NULL;
    json_decref(message);
    CLEANUP_FREE char *text = NULL;
    int n = body ? asprintf(&text, "%s%s\r\n", reset ? "\xff\n" : "", body) : -1;
    if (n < 0) {
        text = NULL;
        return error_set(err, ERROR_SYSTEM, "cannot write the QMP command %s", command);
    }
    return line_write(&q->line, text, (size_t)n, pass_fd, deadline, err);
}

/* Fills `err` from QEMU's error object and remembers its class. */
static int refused(struct qmp *q, const char *command, json_t *error, struct error *err) {
    const char *class = json_string_value(json_object_get(error, "class"));
    const char *desc = json_string_value(json_object_get(error, "desc"));
    snprintf(q->refusal, sizeof(q->refusal), "%s", class ? class : "GenericError");
    return error_set(err, ERROR_VMM, "QEMU refused %s: %s", command, desc ? desc : "(no reason given)");
}

/* Takes a message; 1 when it was the answer to `id`: then *ret or `err` is filled and *result is what to return. */
static int take_answer(struct qmp *q, json_t *message, const char *command, const char *id, json_t **ret, int *result,
                       struct error *err) {
    const char *got = json_string_value(json_object_get(message, "id"));
    if (got == NULL || strcmp(got, id) != 0) {
        json_decref(message);
        return 0;
    }
    json_t *error = json_object_get(message, "error"), *value = json_object_get(message, "return");
    if (value != NULL) {
        *result = 0;
        if (ret != NULL) {
            *ret = json_incref(value);
        }
    } else {
        *result = refused(q, command, error, err);
    }
    json_decref(message);
    return 1;
}

static int wait_answer(struct qmp *q, const char *command, const char *id, json_t **ret, int64_t deadline,
                       struct error *err) {
    int result = -1;
    for (;;) {
        json_t *message;
        int n = next_message(q, &message, false, deadline, err);
        if (n < 0) {
            return error_prefix(err, "%s: ", command);
        }
        if (n == 0) {
            return error_set(err, ERROR_VMM, "QEMU did not answer %s in time: is it hung?", command);
        }
        if (take_answer(q, message, command, id, ret, &result, err)) {
            return result;
        }
    }
}

static int execute(struct qmp *q, const char *command, json_t *args, int pass_fd, json_t **ret, int64_t timeout_ns,
                   struct error *err) {
    char id[64];
    int64_t deadline = clock_now() + timeout_ns;
    q->refusal[0] = '\0';
    if (ret != NULL) {
        *ret = NULL;
    }
    if (fault_planned("qmp-refuse", command)) {
        json_decref(args);
        snprintf(q->refusal, sizeof(q->refusal), "GenericError");
        return error_set(err, ERROR_VMM, "QEMU refused %s: injected fault", command);
    }
    if (q->line.half_written) {
        json_decref(args);
        return error_set(err, ERROR_VMM, "%s was not sent: an earlier command got stuck in the middle", command);
    }
    new_id(q, id, sizeof(id));
    int result = send_command(q, command, args, id, pass_fd, false, deadline, err);
    if (result == 0) {
        result = wait_answer(q, command, id, ret, deadline, err);
    }
    dispatch(q);
    return result;
}

int qmp_execute(struct qmp *q, const char *command, json_t *args, json_t **ret, int64_t timeout_ns, struct error *err) {
    return execute(q, command, args, -1, ret, timeout_ns, err);
}

int qmp_getfd(struct qmp *q, int fd, const char *name, struct error *err) {
    return execute(q, "getfd", json_pack("{s:s}", "fdname", name), fd, NULL, QMP_TIMEOUT, err);
}

int qmp_wait_event(struct qmp *q, int64_t timeout_ns, struct error *err) {
    int64_t deadline = clock_now() + timeout_ns;
    int result = q->event_count > 0 ? 1 : 0;
    while (result == 0) {
        json_t *message; /* an answer that nobody waits for any more */
        result = next_message(q, &message, true, deadline, err);
        if (result == 1 && message != NULL) {
            json_decref(message);
            result = 0;
        } else if (result == 0) {
            break;
        }
    }
    dispatch(q);
    return result;
}

int qmp_drive(struct qmp *q, struct error *err) {
    int n = 1;
    for (unsigned i = 0; n == 1 && i < EVENTS_MAX; i++) {
        json_t *message;
        n = next_message(q, &message, true, 0, err);
        json_decref(message);
    }
    dispatch(q);
    return n < 0 ? -1 : 0;
}

int qmp_resync(struct qmp *q, int64_t timeout_ns, struct error *err) {
    char id[64];
    int64_t deadline = clock_now() + timeout_ns;
    q->refusal[0] = '\0';
    line_forget(&q->line);
    drop_events(q);
    q->line.half_written = false;
    q->garbage = 0;
    q->garbage_max = GARBAGE_MAX_RESYNC;
    new_id(q, id, sizeof(id));
    int result = send_command(q, "query-status", NULL, id, -1, true, deadline, err);
    if (result == 0) {
        result = wait_answer(q, "query-status", id, NULL, deadline, err);
        if (result < 0 && q->refusal[0] != '\0') {
            error_clear(err); /* an answer all the same: what comes next is a message boundary */
            result = 0;
        }
    }
    q->garbage_max = GARBAGE_MAX;
    return result;
}
