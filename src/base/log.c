/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/text.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

/* How a process talks to its terminal is the process's own: the one state that two migrations in one process would
 * share. The lock keeps lines and the progress line from mixing. */
static struct {
    pthread_mutex_t lock;
    const char *prefix;
    enum log_level level;
    bool progress_shown;
} terminal = { .lock = PTHREAD_MUTEX_INITIALIZER, .prefix = "godwit", .level = LOG_WARNING };

void log_setup(const char *prefix, enum log_level level) {
    terminal.prefix = prefix;
    terminal.level = level;
}

/* Nobody who reads our messages slowly (Ctrl-S, a full pipe) may hold up a guest: what cannot be written at once is
 * dropped, an error waits a moment. */
static void write_text(const char *text, size_t size, int patience_ms) {
    struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
    if (poll(&p, 1, patience_ms) > 0 && write(STDERR_FILENO, text, size) < 0) {
        return; /* there is nobody to tell */
    }
}

#define CLEAR_LINE "\r\033[K"

void log_at(enum log_level level, const char *format, ...) {
    if (level > terminal.level) {
        return;
    }
    static const char *const tags[] = { "error: ", "warning: ", "", "", "debug: " };
    char text[2048], line[2200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    text_make_printable(text); /* names of processes, words of a peer or of the VMM may be in it */
    pthread_mutex_lock(&terminal.lock);
    int n = snprintf(line, sizeof(line), "%s%s: %s%s\n", terminal.progress_shown ? CLEAR_LINE : "", terminal.prefix,
                     tags[level], text);
    terminal.progress_shown = false;
    write_text(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1, level == LOG_ERROR ? 100 : 0);
    pthread_mutex_unlock(&terminal.lock);
}

void log_progress(const char *text) {
    char line[256];
    pthread_mutex_lock(&terminal.lock);
    int n = snprintf(line, sizeof(line), "%s%s", terminal.progress_shown ? CLEAR_LINE : "", text);
    terminal.progress_shown = text[0] != '\0';
    if (n > 0) {
        write_text(line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1, 0);
    }
    pthread_mutex_unlock(&terminal.lock);
}

/* The cookie's write: one line, as the stream is line-buffered, unless that is longer than the buffer. */
static ssize_t write_for_library(void *cookie, const char *text, size_t size) {
    (void)cookie;
    size_t length = size;
    while (length > 0 && text[length - 1] == '\n') {
        length--;
    }
    log_info("a library says: %.*s", length < INT_MAX ? (int)length : INT_MAX, text);
    return (ssize_t)size; /* all of it: what is not, stdio tries for ever */
}

void log_adopt_libraries(void) {
    static const cookie_io_functions_t io = { .write = write_for_library };
    FILE *stream = fopencookie(NULL, "w", io);
    if (stream != NULL) {
        setvbuf(stream, NULL, _IOLBF, 0);
        stderr = stream; /* a variable like any other in glibc ("Standard Streams" in its manual) */
    }
}
