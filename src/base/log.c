/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

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

static void clear_progress(void) {
    if (terminal.progress_shown) {
        fputs("\r\033[K", stderr);
        terminal.progress_shown = false;
    }
}

void log_at(enum log_level level, const char *format, ...) {
    if (level > terminal.level) {
        return;
    }
    static const char *const tags[] = { "error: ", "warning: ", "", "debug: " };
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    pthread_mutex_lock(&terminal.lock);
    clear_progress();
    fprintf(stderr, "%s: %s%s\n", terminal.prefix, tags[level], text);
    pthread_mutex_unlock(&terminal.lock);
}

void log_progress(const char *text) {
    pthread_mutex_lock(&terminal.lock);
    clear_progress();
    if (text[0] != '\0') {
        fputs(text, stderr);
        fflush(stderr);
        terminal.progress_shown = true;
    }
    pthread_mutex_unlock(&terminal.lock);
}
