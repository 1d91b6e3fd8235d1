/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/candidate.h"

#include "base/cleanup.h"
#include "wire/bytes.h"
#include "wire/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Bytes at one call: others are to be heard too. */
#define MOST_AT_ONCE (64u << 10)

void candidate_begin(struct candidate *c, const uint8_t session[SESSION_SIZE]) {
    *c = (struct candidate){ .heard_at = clock_now() };
    memcpy(c->session, session, SESSION_SIZE);
}

void candidate_end(struct candidate *c) {
    free(take_ptr(&c->text));
}

/* Up to `size` bytes: how many came, 0 when there is nothing more to read now, -1 at the end. */
static ssize_t take(int fd, void *to, size_t size, struct error *why) {
    ssize_t n = recv(fd, to, size, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    if (n < 0) {
        return error_errno(why, ERROR_LINK, "the connection broke before it brought its guest");
    }
    return n > 0 ? n : error_set(why, ERROR_LINK, "it closed the connection before it brought its guest");
}

/* The head is there: makes room for the text. */
static int begin_text(struct candidate *c, struct error *why) {
    c->size = get_u32(c->head);
    if (c->size == 0 || c->size > LINK_MAX_MESSAGE) {
        return error_set(why, ERROR_PEER, "it announced a message of %u bytes, which cannot be", c->size);
    }
    c->text = malloc(c->size);
    c->have = 0;
    return c->text != NULL ? 0 : error_errno(why, ERROR_SYSTEM, "no memory for a message");
}

/* A source that gave up before it brought its guest says why. */
static int take_abort(json_t *message, struct error *why) {
    const char *desc = json_string_value(json_object_get(message, "desc"));
    const char *class = json_string_value(json_object_get(message, "class"));
    return error_set(why, error_class_from_name(class ? class : ""), "the source gave up: %s",
                     desc ? desc : "(no reason)");
}

/* Judges a message by its type; *request as candidate_read() has it. */
static int take_message(struct candidate *c, json_t *message, json_t **request, struct error *why) {
    const char *type = json_string_value(json_object_get(message, "type"));
    const char *stage = json_string_value(json_object_get(message, "stage"));
    type = type != NULL ? type : "(none)";
    if (strcmp(type, "ping") == 0) {
        return ++c->pings <= CANDIDATE_PINGS ? 0 : error_set(why, ERROR_PEER, "it sends pings, and no guest");
    }
    if (strcmp(type, "request") == 0 && stage != NULL && strcmp(stage, "inspect") == 0) {
        *request = json_incref(message);
        return 1;
    }
    if (strcmp(type, "abort") == 0) {
        return take_abort(message, why);
    }
    return error_set(why, ERROR_PEER, "the first that it sends is '%.32s%s%.32s' and not its guest", type,
                     stage ? " " : "", stage ? stage : "");
}

/* The text is there as a whole. */
static int end_text(struct candidate *c, json_t **request, struct error *why) {
    json_error_t where;
    CLEANUP_FREE char *text = take_ptr(&c->text);
    c->have = 0;
    c->heard_at = clock_now();
    json_t *message = json_loadb(text, c->size, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(message)) {
        json_decref(message);
        return error_set(why, ERROR_PEER, "it sent a message that is not JSON: %s", where.text);
    }
    int rc = take_message(c, message, request, why);
    json_decref(message);
    return rc;
}

int candidate_read(struct candidate *c, int fd, json_t **request, struct error *why) {
    for (uint32_t read = 0; read < MOST_AT_ONCE;) {
        void *to = c->text != NULL ? c->text + c->have : (char *)c->head + c->have;
        uint32_t want = (c->text != NULL ? c->size : (uint32_t)sizeof(c->head)) - c->have;
        ssize_t n = take(fd, to, want, why);
        if (n <= 0) {
            return (int)n;
        }
        read += (uint32_t)n;
        c->have += (uint32_t)n;
        if ((uint32_t)n < want) {
            continue;
        }
        int rc = c->text != NULL ? end_text(c, request, why) : begin_text(c, why);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* All or nothing goes: the other end could make nothing of half a message. */
static int say(int fd, const char *text) {
    uint8_t head[4];
    put_u32(head, (uint32_t)strlen(text));
    struct iovec iov[2] = { { head, sizeof(head) }, { (void *)(uintptr_t)text, strlen(text) } };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
    return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)(sizeof(head) + strlen(text)) ? 0 : -1;
}

int candidate_ping(int fd) {
    return say(fd, "{\"type\":\"ping\"}");
}

void candidate_tell(int fd, json_t *message) {
    CLEANUP_FREE char *text = message != NULL ? json_dumps(message, JSON_COMPACT) : NULL;
    if (text != NULL && say(fd, text) < 0) {
        return; /* it does not read: it sees the end of its connection */
    }
}

void candidate_refuse(int fd, const struct error *why) {
    json_t *message =
        json_pack("{s:s, s:s, s:s}", "type", "error", "class", error_class_name(why->class), "desc", why->desc);
    candidate_tell(fd, message);
    json_decref(message);
}
