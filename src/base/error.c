/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const char *const class_names[] = {
    [ERROR_NONE] = "none",         [ERROR_USAGE] = "usage",     [ERROR_REFUSED] = "refused",
    [ERROR_SYSTEM] = "system",     [ERROR_VMM] = "vmm",         [ERROR_LINK] = "link",
    [ERROR_PEER] = "peer",         [ERROR_CORRUPT] = "corrupt", [ERROR_CANCELLED] = "cancelled",
    [ERROR_IN_DOUBT] = "in-doubt",
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

/* Bytes of the UTF-8 character at `s`; 0 when there is none: cut, too long a form, a surrogate, above U+10FFFF. */
static size_t character_length(const unsigned char *s) {
    if (s[0] < 0x80) {
        return 1;
    }
    static const uint32_t least[] = { [2] = 0x80, [3] = 0x800, [4] = 0x10000 };
    size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    uint32_t value = s[0] & (0x7fu >> length);
    if (s[0] < 0xc0 || s[0] > 0xf7) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0; /* this also stops at the end of the text */
        }
        value = value << 6 | (s[i] & 0x3f);
    }
    return value < least[length] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000) ? 0 : length;
}

/* One line of UTF-8: whatever an untrusted party put into the text, and wherever it was cut to fit, no control
 * character reaches the terminal and the text can stand in a JSON report. */
static void make_printable(char *text) {
    unsigned char *s = (unsigned char *)text;
    while (*s != '\0') {
        size_t length = character_length(s);
        if (length == 0) {
            *s++ = '?';
            continue;
        }
        bool control = s[0] < ' ' || s[0] == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0);
        if (control) {
            memset(s, ' ', length);
        }
        s += length;
    }
}

void error_fill(struct error *err, enum error_class class, const char *format, ...) {
    if (error_is_set(err)) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(err->desc, sizeof(err->desc), format, args);
    va_end(args);
    make_printable(err->desc);
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
    make_printable(err->desc);
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
    make_printable(text);
    memcpy(err->desc, text, sizeof(text));
}
