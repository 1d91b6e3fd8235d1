/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plan_item {
    const char *name, *where, *value;
    size_t name_length, where_length;
};

/* Takes the next item off `*text`; false at its end. */
static bool next_item(const char **text, struct plan_item *item) {
    const char *s = *text;
    if (*s == '\0') {
        return false;
    }
    size_t length = strcspn(s, ",");
    const char *at = memchr(s, '@', length), *eq = memchr(s, '=', length);
    const char *end = s + length;
    const char *name_end = at ? at : eq ? eq : end;
    *item = (struct plan_item){ .name = s, .name_length = (size_t)(name_end - s) };
    if (at) {
        item->where = at + 1;
        item->where_length = (size_t)((eq ? eq : end) - item->where);
    }
    if (eq) {
        item->value = eq + 1;
    }
    *text = *end == ',' ? end + 1 : end;
    return true;
}

static bool equals(const char *text, size_t length, const char *word) {
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

static bool find_item(const char *name, const char *where, struct plan_item *found) {
    const char *plan = getenv("GODWIT_FAULT");
    if (plan == NULL) {
        return false;
    }
    while (next_item(&plan, found)) {
        if (equals(found->name, found->name_length, name) &&
            (where == NULL || found->where == NULL || equals(found->where, found->where_length, where))) {
            return true;
        }
    }
    return false;
}

bool fault_planned(const char *name, const char *where) {
    struct plan_item item;
    return find_item(name, where, &item);
}

int64_t fault_value(const char *name, const char *where, int64_t otherwise) {
    struct plan_item item;
    if (!find_item(name, where, &item) || item.value == NULL) {
        return otherwise;
    }
    return strtoll(item.value, NULL, 10);
}

int64_t fault_value_at(const char *name, unsigned where, int64_t otherwise) {
    char text[16];
    snprintf(text, sizeof(text), "%u", where);
    return fault_value(name, text, otherwise);
}
