/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

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
void text_make_printable(char *text) {
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

bool text_number(const char **text, uint64_t *value) {
    const char *at = *text;
    uint64_t n = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(n, 10u, &n) || __builtin_add_overflow(n, (uint64_t)(*at - '0'), &n)) {
            return false;
        }
    }
    if (at == *text) {
        return false;
    }
    *text = at;
    *value = n;
    return true;
}
