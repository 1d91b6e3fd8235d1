/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const char *const class_names[] = {
    [ERROR_NONE] = "none",       [ERROR_USAGE] = "usage",       [ERROR_REFUSED] = "refused",
    [ERROR_SYSTEM] = "system",   [ERROR_VMM] = "vmm",           [ERROR_LINK] = "link",
    [ERROR_PEER] = "peer",       [ERROR_CORRUPT] = "corrupt",   [ERROR_CANCELLED] = "cancelled",
    [ERROR_TIMEOUT] = "timeout", [ERROR_IN_DOUBT] = "in-doubt",
};

#define CLASS_COUNT (sizeof(class_names) / sizeof(class_names[0]))

const char *error_class_name(enum error_class class) {
    return (size_t) class < CLASS_COUNT ? class_names[class] : "none";
}

enum error_class error_class_from_name(const char *name) {
    for (size_t i = 1; i < CLASS_COUNT; i++) {
        if (strcmp(class_names[i], name) == 0) {
            return (enum error_class)i;
        }
    }
    return ERROR_PEER;
}

bool error_is_set(const struct error *err) {
    return err->class != ERROR_NONE;
}

void error_clear(struct error *err) {
    err->class = ERROR_NONE;
    err->desc[0] = '\0';
}

void error_fill(struct error *err, enum error_class class, const char *format, ...) {
    if (error_is_set(err)) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(err->desc, sizeof(err->desc), format, args);
    va_end(args);
    text_make_printable(err->desc);
    err->class = class;
}

void error_fill_errno(struct error *err, enum error_class class, const char *format, ...) {
    int saved = errno;
    if (error_is_set(err)) {
        return;
    }
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->desc, sizeof(err->desc), format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof(err->desc)) {
        snprintf(err->desc + n, sizeof(err->desc) - (size_t)n, ": %s", strerror(saved));
    }
    text_make_printable(err->desc);
    err->class = class;
    errno = saved;
}

void error_fill_prefix(struct error *err, const char *format, ...) {
    char text[sizeof(err->desc)];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    size_t have = strlen(text);
    if (have < sizeof(text)) {
        snprintf(text + have, sizeof(text) - have, "%s", err->desc);
    }
    text_make_printable(text);
    memcpy(err->desc, text, sizeof(text));
}
