/* SPDX-License-Identifier: Apache-2.0 */
/*
 *               Block Name    PSize              Offset               Used              Total                HVA  RO
 *    0000:00:02.0/vga.vram    4 KiB  0x0000000008080000 0x0000000001000000 0x0000000001000000 0x00007fb751800000  rw
 *
 * The last two columns are there since 8.2.
 */
#include "vmm/qemu/ramblock.h"

#include "base/cleanup.h"
#include "vmm/qemu/query.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Takes " 0x" and 1 to 16 hexadecimal digits off [*s, end). */
static bool take_hex(const char **s, const char *end, uint64_t *value) {
    const char *at = *s;
    while (at < end && *at == ' ') {
        at++;
    }
    if (at == *s || end - at < 3 || at[0] != '0' || at[1] != 'x') {
        return false;
    }
    at += 2;
    const char *digits = at;
    uint64_t number = 0;
    for (; at < end && at - digits < 16 && isxdigit((unsigned char)*at); at++) {
        int c = tolower((unsigned char)*at);
        number = number << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (at == digits || (at < end && *at != ' ')) {
        return false;
    }
    *s = at;
    *value = number;
    return true;
}

/* The beginning of the last word of [line, end), where end is moved before the white space in front of it. */
static const char *drop_word(const char *line, const char *end) {
    while (end > line && end[-1] != ' ') {
        end--;
    }
    while (end > line && end[-1] == ' ') {
        end--;
    }
    return end;
}

/* What stands before the numbers: the name, then the page size as two words. Names have no white space at their ends.
 */
static bool take_name(const char *line, const char *end, char *id, size_t size) {
    while (line < end && *line == ' ') {
        line++;
    }
    while (end > line && end[-1] == ' ') {
        end--;
    }
    end = drop_word(line, drop_word(line, end));
    size_t length = (size_t)(end - line);
    if (length == 0 || length >= size || memchr(line, '\0', length) != NULL) {
        return false;
    }
    memcpy(id, line, length);
    id[length] = '\0';
    return true;
}

/* Where the numbers begin: two spaces stand before the first of them only, and behind it nothing but numbers and a
 * word. A name may have anything in it. */
static const char *find_numbers(const char *line, size_t length) {
    const char *found = NULL, *end = line + length;
    for (const char *at = line; (at = memmem(at, (size_t)(end - at), "  0x", 4)) != NULL; at++) {
        found = at;
    }
    return found;
}

bool ramblock_parse(const char *line, size_t length, struct ramblock *b) {
    const char *end = line + length, *numbers = find_numbers(line, length);
    *b = (struct ramblock){ 0 };
    if (numbers == NULL || !take_name(line, numbers, b->id, sizeof(b->id))) {
        return false;
    }
    if (!take_hex(&numbers, end, &b->offset) || !take_hex(&numbers, end, &b->used) ||
        !take_hex(&numbers, end, &b->total) || b->used > b->total) {
        return false;
    }
    take_hex(&numbers, end, &b->host);
    return true;
}

static int parse_all(const char *text, struct ramblock **list, size_t *count, struct error *err) {
    CLEANUP_FREE struct ramblock *blocks = NULL;
    size_t n = 0, room = 0;
    while (*text != '\0' && n < RAMBLOCKS_MAX) {
        size_t length = strcspn(text, "\r\n");
        if (n == room) {
            struct ramblock *larger = reallocarray(blocks, room + 32, sizeof(*larger));
            if (larger == NULL) {
                return error_errno(err, ERROR_SYSTEM, "no memory for QEMU's RAM blocks");
            }
            blocks = larger;
            room += 32;
        }
        n += ramblock_parse(text, length, &blocks[n]);
        text += length + (text[length] != '\0');
    }
    *list = take_ptr(&blocks);
    *count = n;
    return 0;
}

int ramblock_list(struct qmp *q, struct ramblock **list, size_t *count, struct error *err) {
    CLEANUP_JSON json_t *answer = NULL;
    *list = NULL;
    *count = 0;
    json_t *args = json_pack("{s:s}", "command-line", "info ramblock");
    if (qmp_execute(q, "human-monitor-command", args, &answer, QMP_TIMEOUT, err) < 0) {
        if (qmp_refusal(q)[0] == '\0') {
            return -1;
        }
        error_clear(err);
        return 0;
    }
    const char *text = json_string_value(answer);
    return text != NULL ? parse_all(text, list, count, err) : 0;
}
