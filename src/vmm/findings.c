/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/findings.h"

#include "base/log.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void findings_release(struct findings *f) {
    json_decref(f->refusals);
    json_decref(f->remarks);
    *f = (struct findings){ NULL, NULL };
}

static void add(json_t *list, const char *text) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        if (strcmp(json_string_value(item), text) == 0) {
            return;
        }
    }
    if (json_array_size(list) < FINDINGS_MAX) {
        json_array_append_new(list, json_string(text));
    }
}

/* The texts hold what others have said, cut anywhere: json_string() takes only whole characters. */
static void add_format(json_t *list, const char *format, va_list args) {
    char text[sizeof(((struct error *)NULL)->desc)];
    vsnprintf(text, sizeof(text), format, args);
    text_make_printable(text);
    add(list, text);
}

void findings_refuse(struct findings *f, const char *format, ...) {
    va_list args;
    va_start(args, format);
    add_format(f->refusals, format, args);
    va_end(args);
}

void findings_remark(struct findings *f, const char *format, ...) {
    va_list args;
    va_start(args, format);
    add_format(f->remarks, format, args);
    va_end(args);
}

int findings_take(struct findings *f, int result, struct error *err) {
    if (result >= 0) {
        return 0;
    }
    if (err->class != ERROR_REFUSED) {
        return -1;
    }
    add(f->refusals, err->desc);
    error_clear(err);
    return 0;
}

int findings_conclude(const struct findings *f, struct error *err) {
    char text[sizeof(err->desc)];
    size_t i, used = 0, count = json_array_size(f->refusals);
    json_t *item;
    json_array_foreach(f->remarks, i, item) {
        log_warning("%s", json_string_value(item));
    }
    if (count == 0) {
        return 0;
    }
    json_array_foreach(f->refusals, i, item) {
        /* room is kept for the count of those that do not fit */
        size_t room = sizeof(text) - used - sizeof("; and 99 more");
        const char *one = json_string_value(item);
        if (i > 0 && strlen(one) + 2 > room) {
            snprintf(text + used, sizeof(text) - used, "; and %zu more", count - i);
            break;
        }
        int n = snprintf(text + used, room, "%s%s", i > 0 ? "; " : "", one);
        used += n > 0 && (size_t)n < room ? (size_t)n : room - 1;
    }
    return error_set(err, ERROR_REFUSED, "%s", text);
}

void name_list_add(struct name_list *n, const char *name) {
    size_t room = sizeof(n->text) - n->used;
    int length = snprintf(n->text + n->used, room, "%s%s", n->used > 0 ? ", " : "", name);
    if (length > 0) {
        n->used += (size_t)length < room ? (size_t)length : room - 1;
    }
}
