/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/event.h"

#include <ctype.h>
#include <string.h>

static bool is_asked_for(const struct event_queue *q, const char *name) {
    for (const char *const *n = q->names; n != NULL && *n != NULL; n++) {
        if (strcmp(*n, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Copies a word of plain characters, cut to fit. False: no string. */
static bool copy_word(const json_t *value, char *word, size_t size) {
    const char *s = json_string_value(value);
    size_t n = 0;
    for (; s != NULL && s[n] != '\0' && n + 1 < size; n++) {
        word[n] = (char)(isgraph((unsigned char)s[n]) ? s[n] : ' ');
    }
    word[n] = '\0';
    return s != NULL;
}

static void note_shutdown(struct event_queue *q, const char *name, const json_t *data) {
    if (strcmp(name, "RESUME") == 0) {
        q->shutdown[0] = '\0';
    } else if (strcmp(name, "SHUTDOWN") == 0 &&
               !copy_word(json_object_get(data, "reason"), q->shutdown, sizeof(q->shutdown))) {
        memcpy(q->shutdown, "?", 2);
    }
}

static struct qmp_event *place(struct event_queue *q, size_t i) {
    return &q->ring[(q->first + i) % EVENTS_MAX];
}

/* Whether one that says the same came after event `i`. */
static bool came_again(struct event_queue *q, size_t i) {
    for (size_t k = i + 1; k < q->count; k++) {
        if (strcmp(place(q, k)->name, place(q, i)->name) == 0 &&
            strcmp(place(q, k)->action, place(q, i)->action) == 0) {
            return true;
        }
    }
    return false;
}

/* A disk that fails says so once for each request, and RESUME is said but once. */
static void forget_one(struct event_queue *q) {
    size_t i = 0;
    while (i < q->count && !came_again(q, i)) {
        i++;
    }
    for (i = i < q->count ? i : 0; i + 1 < q->count; i++) {
        *place(q, i) = *place(q, i + 1);
    }
    q->count--;
}

bool event_queue_add(struct event_queue *q, const json_t *message, int64_t when) {
    const char *name = json_string_value(json_object_get(message, "event"));
    const json_t *data = json_object_get(message, "data");
    if (name == NULL) {
        return false;
    }
    note_shutdown(q, name, data);
    if (!is_asked_for(q, name)) {
        return false;
    }
    if (q->count == EVENTS_MAX) {
        forget_one(q);
    }
    struct qmp_event *e = place(q, q->count++);
    e->when = when;
    copy_word(json_object_get(message, "event"), e->name, sizeof(e->name));
    copy_word(json_object_get(data, "action"), e->action, sizeof(e->action));
    if (!copy_word(json_object_get(data, "status"), e->word, sizeof(e->word))) {
        copy_word(json_object_get(data, "reason"), e->word, sizeof(e->word));
    }
    return true;
}

bool event_queue_take(struct event_queue *q, struct qmp_event *event) {
    if (q->count == 0) {
        return false;
    }
    *event = q->ring[q->first];
    q->first = (q->first + 1) % EVENTS_MAX;
    q->count--;
    return true;
}

void event_queue_clear(struct event_queue *q) {
    q->first = q->count = 0;
}
