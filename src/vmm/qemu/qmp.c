/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/qmp.h"

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/log.h"
#include "vmm/qemu/dial.h"
#include "vmm/qemu/line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* More garbage in a row than this is no monitor. A resync may meet all that was queued for a killed parent. */
#define GARBAGE_MAX 64
#define GARBAGE_MAX_RESYNC 100000
/* Messages that qmp_drive() takes before it lets others have a turn. */
#define DRIVE_MAX 256

struct qmp {
    struct line_socket line;
    struct qmp_version version;
    uint64_t last_id;
    int64_t deadline; /* the owner's; INT64_MAX: none */
    unsigned garbage; /* lines in a row that were no QMP message */
    unsigned garbage_max;
    char refusal[64];

    struct event_queue events; /* read, not yet handed out */
    bool dispatching;          /* the callback is running and may call us: it is not entered again */
    qmp_event_fn *callback;
    void *opaque;
};

/* What an answer may take: parsed it needs up to some thirty times that. */
#define ANSWER_LIMIT ((size_t)1 << 20)
/* Lists of all that a guest has. */
#define LIST_LIMIT ((size_t)4 << 20)

static size_t answer_limit(const char *command) {
    static const char *const lists[] = { "query-named-block-nodes", "query-block", "query-qmp-schema" };
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        if (strcmp(command, lists[i]) == 0) {
            return LIST_LIMIT;
        }
    }
    return ANSWER_LIMIT;
}

static struct qmp *create(struct error *err) {
    struct qmp *q = calloc(1, sizeof(*q));
    if (q == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory for a QMP connection");
        return NULL;
    }
    q->line.fd = -1;
    q->deadline = INT64_MAX;
    q->garbage_max = GARBAGE_MAX;
    return q;
}

struct qmp *qmp_connect(const char *where, int64_t timeout_ns, struct error *err) {
    int fd = dial(where, clock_now() + timeout_ns, err);
    return fd < 0 ? NULL : qmp_from_fd(fd, err);
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

void qmp_close(struct qmp *q) {
    if (q != NULL) {
        line_close(&q->line);
        free(q);
    }
}

void qmp_on_wait(struct qmp *q, void (*callback)(void *opaque), void *opaque) {
    q->line.on_wait = callback;
    q->line.opaque = opaque;
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

void qmp_on_event(struct qmp *q, const char *const *names, qmp_event_fn *callback, void *opaque) {
    q->events.names = names;
    q->callback = callback;
    q->opaque = opaque;
}

bool qmp_gone(const struct qmp *q) {
    return q->line.ended;
}

const char *qmp_refusal(const struct qmp *q) {
    return q->refusal;
}

void qmp_set_deadline(struct qmp *q, int64_t at) {
    q->deadline = at;
}

int64_t qmp_deadline(const struct qmp *q) {
    return q->deadline;
}

void qmp_set_watch(struct qmp *q, const struct vmm_watch *watch) {
    q->line.watch = watch != NULL ? *watch : (struct vmm_watch){ 0 };
}

bool qmp_shield(struct qmp *q, bool shielded) {
    bool before = q->line.shielded;
    q->line.shielded = shielded;
    return before;
}

/* When a call that may take `timeout_ns` ends. */
static int64_t end_of(const struct qmp *q, int64_t timeout_ns) {
    int64_t at = clock_now() + timeout_ns;
    return at < q->deadline ? at : q->deadline;
}

static void dispatch(struct qmp *q) {
    if (q->dispatching) {
        return;
    }
    q->dispatching = true;
    for (struct qmp_event e; event_queue_take(&q->events, &e);) {
        log_debug("QEMU event %s %s", e.name, e.word);
        if (q->callback != NULL) {
            q->callback(q->opaque, &e);
        }
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

/* QEMU tells why it shuts down before it goes. */
static const char *shutdown_text(const char *reason) {
    static const struct {
        const char *reason, *text;
    } texts[] = {
        { "guest-shutdown", "the guest was powered off" },
        { "guest-reset", "the guest was reset, and QEMU was not to do that" },
        { "guest-panic", "the guest has panicked" },
        { "host-qmp-quit", "it was told to quit" },
        { "host-qmp-system-reset", "the guest was reset, and QEMU was not to do that" },
        { "host-signal", "it was ended by a signal" },
        { "host-ui", "its window was closed" },
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (strcmp(reason, texts[i].reason) == 0) {
            return texts[i].text;
        }
    }
    return "it was shut down";
}

/* The connection has ended; `err` is filled, and says why where QEMU has said it. */
static int explain_end(const struct qmp *q, struct error *err) {
    if (q->line.ended && q->events.shutdown[0] != '\0') {
        error_clear(err);
        return error_set(err, ERROR_VMM, "QEMU went away: %s", shutdown_text(q->events.shutdown));
    }
    return -1;
}

/* Counts a line that is no QMP message. */
static int note_garbage(struct qmp *q, size_t length, struct error *err) {
    log_debug("QEMU's monitor sent %zu bytes that are no QMP message", length);
    if (++q->garbage <= q->garbage_max) {
        return 0;
    }
    q->garbage = 0;
    return error_set(
        err, ERROR_VMM,
        "the monitor does not speak QMP: %u lines of garbage (is it a human monitor, or has it pretty=on?)",
        q->garbage_max);
}

/* A peer that never stops talking keeps nobody: not beyond the deadline, and where there is none not for long. */
static bool had_enough(int64_t deadline, unsigned dropped) {
    return deadline == 0 ? dropped >= DRIVE_MAX : clock_now() >= deadline;
}

/* Reads the next message that is no event; events are queued or dropped. 1: *message is a new reference; 0: deadline;
 * -1. With `or_event` it also returns 1, with *message NULL, once an event has been queued. */
static int next_message(struct qmp *q, json_t **message, bool or_event, int64_t deadline, struct error *err) {
    *message = NULL;
    for (unsigned dropped = 0; dropped == 0 || !had_enough(deadline, dropped); dropped++) {
        char *line;
        size_t length;
        int n = line_read(&q->line, &line, &length, deadline, err);
        if (n <= 0) {
            return n < 0 ? explain_end(q, err) : 0;
        }
        if (length == 0) {
            continue;
        }
        json_t *m = parse(line, length);
        if (m == NULL) {
            if (note_garbage(q, length, err) < 0) {
                return -1;
            }
            continue;
        }
        q->garbage = 0;
        if (json_is_string(json_object_get(m, "event"))) {
            bool kept = event_queue_add(&q->events, m, clock_now());
            json_decref(m);
            if (kept && or_event) {
                return 1;
            }
            continue;
        }
        *message = m;
        return 1;
    }
    return 0;
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
    int64_t deadline = end_of(q, timeout_ns);
    if (read_greeting(q, deadline, err) < 0) {
        return -1;
    }
    int64_t left = deadline - clock_now();
    return qmp_execute(q, "qmp_capabilities", NULL, NULL, left > CLOCK_S ? left : CLOCK_S, err);
}

static void new_id(struct qmp *q, char *id, size_t size) {
    snprintf(id, size, "godwit-%ld-%llu", (long)getpid(), (unsigned long long)++q->last_id);
}

/* The connection ended when it was written to; what came before may not have been read yet. Returns -1. */
static int take_last_words(struct qmp *q, struct error *err) {
    json_t *message;
    while (next_message(q, &message, false, 0, err) == 1) {
        json_decref(message);
    }
    return error_is_set(err) ? -1 : error_set(err, ERROR_VMM, "QEMU went away");
}

/* A command has not been answered, or not been taken, when it was time. */
static int too_late(const struct qmp *q, const char *command, const char *what, struct error *err) {
    if (clock_now() >= q->deadline) {
        return error_set(err, ERROR_TIMEOUT, "QEMU %s %s before the stop limit was over (stop-limit)", what, command);
    }
    return error_set(err, ERROR_VMM, "QEMU %s %s in time: is it hung?", what, command);
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
    if (line_write(&q->line, text, (size_t)n, pass_fd, deadline, err) == 0) {
        return 0;
    }
    if (q->line.ended) {
        error_clear(err);
        return take_last_words(q, err);
    }
    if (err->class == ERROR_VMM && clock_now() >= q->deadline) {
        error_clear(err);
        return too_late(q, command, "did not take", err);
    }
    return -1;
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
            return q->line.called_off ? -1 : error_prefix(err, "%s: ", command);
        }
        if (n == 0) {
            return too_late(q, command, "did not answer", err);
        }
        if (take_answer(q, message, command, id, ret, &result, err)) {
            return result;
        }
    }
}

/* Whether a command may be sent now. */
static int may_send(struct qmp *q, const char *command, struct error *err) {
    if (fault_planned("qmp-refuse", command)) {
        snprintf(q->refusal, sizeof(q->refusal), "GenericError");
        return error_set(err, ERROR_VMM, "QEMU refused %s: injected fault", command);
    }
    if (q->line.half_written) {
        return error_set(err, ERROR_VMM, "%s was not sent: an earlier command got stuck in the middle", command);
    }
    if (clock_now() >= q->deadline) {
        return error_set(err, ERROR_TIMEOUT, "%s was not sent to QEMU: the stop limit was over (stop-limit)", command);
    }
    if (line_interrupted(&q->line)) {
        return error_set(err, ERROR_CANCELLED, "called off before %s was sent to QEMU", command);
    }
    return 0;
}

static int execute(struct qmp *q, const char *command, json_t *args, int pass_fd, json_t **ret, int64_t timeout_ns,
                   struct error *err) {
    char id[64];
    int64_t deadline = end_of(q, timeout_ns);
    q->refusal[0] = '\0';
    if (ret != NULL) {
        *ret = NULL;
    }
    if (may_send(q, command, err) < 0) {
        json_decref(args);
        return -1;
    }
    new_id(q, id, sizeof(id));
    q->line.limit = answer_limit(command);
    int result = send_command(q, command, args, id, pass_fd, false, deadline, err);
    if (result == 0) {
        result = wait_answer(q, command, id, ret, deadline, err);
    }
    q->line.limit = ANSWER_LIMIT;
    dispatch(q);
    return result;
}

int qmp_execute(struct qmp *q, const char *command, json_t *args, json_t **ret, int64_t timeout_ns, struct error *err) {
    return execute(q, command, args, -1, ret, timeout_ns, err);
}

bool qmp_takes_fds(const struct qmp *q) {
    struct sockaddr_storage own = { 0 };
    socklen_t size = sizeof(own);
    return getsockname(q->line.fd, (struct sockaddr *)&own, &size) == 0 && own.ss_family == AF_UNIX;
}

int qmp_getfd(struct qmp *q, int fd, const char *name, struct error *err) {
    return execute(q, "getfd", json_pack("{s:s}", "fdname", name), fd, NULL, QMP_TIMEOUT, err);
}

int qmp_add_fd(struct qmp *q, int fd, const char *mark, int64_t *id, struct error *err) {
    json_t *answer = NULL;
    if (execute(q, "add-fd", json_pack("{s:s}", "opaque", mark), fd, &answer, QMP_TIMEOUT, err) < 0) {
        return -1;
    }
    const json_t *number = json_object_get(answer, "fdset-id");
    bool told = json_is_integer(number);
    *id = json_integer_value(number);
    json_decref(answer);
    return told ? 0 : error_set(err, ERROR_VMM, "QEMU's answer to add-fd makes no sense");
}

int qmp_wait_event(struct qmp *q, int64_t timeout_ns, struct error *err) {
    int64_t deadline = end_of(q, timeout_ns);
    int result = q->events.count > 0 ? 1 : 0;
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
    for (unsigned i = 0; n == 1 && i < DRIVE_MAX; i++) {
        json_t *message;
        n = next_message(q, &message, true, 0, err);
        json_decref(message);
    }
    dispatch(q);
    return n < 0 ? -1 : 0;
}

int qmp_resync(struct qmp *q, int64_t timeout_ns, struct error *err) {
    char id[64];
    int64_t deadline = end_of(q, timeout_ns);
    q->refusal[0] = '\0';
    line_forget(&q->line);
    event_queue_clear(&q->events);
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
