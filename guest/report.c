/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MOST_ERRORS 300

struct report report;
static int console = -1;

int report_open(const char *tty) {
    console = open(tty, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    struct termios mode;
    if (console < 0 || tcgetattr(console, &mode) != 0) {
        return -1;
    }
    cfmakeraw(&mode);
    return tcsetattr(console, TCSANOW, &mode);
}

static void say(const char *start, const char *format, va_list list) {
    char line[256];
    size_t used = strlen(start);
    memcpy(line, start, used);
    int more = vsnprintf(line + used, sizeof(line) - used - 1, format, list);
    used += more < 0 ? 0 : (size_t)more < sizeof(line) - used - 1 ? (size_t)more : sizeof(line) - used - 2;
    line[used++] = '\n';
    if (write(console, line, used) < 0) {
        return; /* nobody is left who could be told */
    }
}

void report_line(const char *format, ...) {
    va_list list;
    va_start(list, format);
    say("", format, list);
    va_end(list);
}

void report_error(const char *format, ...) {
    if (atomic_fetch_add(&report.errors, 1) >= MOST_ERRORS) {
        return;
    }
    va_list list;
    va_start(list, format);
    say("ERROR ", format, list);
    va_end(list);
}

void report_check(const char *what, const void *data, const struct content *content) {
    atomic_fetch_add_explicit(&report.checked, 1, memory_order_relaxed);
    size_t at = content_check(data, content);
    if (at == CONTENT_SIZE) {
        return;
    }
    const unsigned char *bytes = data;
    struct {
        uint64_t magic, place;
        uint32_t body, version;
    } found;
    memcpy(&found, data, sizeof(found));
    report_error(
        "%s %llu kind %d want body %u version %u: differs at %zu (0x%02x); found place %llu body %u version %u", what,
        (unsigned long long)content->place, (int)content->kind, content->body, content->version, at, bytes[at],
        (unsigned long long)found.place, found.body, found.version);
}

uint64_t report_uptime(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
