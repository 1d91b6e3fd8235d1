/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages for people, on stderr, one line each: "godwit send: text". Safe from any thread.
 * Machines read --json and --events instead.
 */
#ifndef GODWIT_BASE_LOG_H
#define GODWIT_BASE_LOG_H

/* LOG_NOTICE: what a person who waits wants to see, without a word in front that looks like trouble. */
enum log_level { LOG_ERROR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG };

/* What is printed in front of every line, and the least important level that is printed. Call before threads start.
 * `prefix` is not copied. */
void log_setup(const char *prefix, enum log_level level);

void log_at(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_at(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

/* From now on what a library prints to the C stream `stderr` is a message too, of level LOG_INFO: it blocks nobody and
 * does not break the progress line. Call before threads start; once for a process. */
void log_adopt_libraries(void);

/* A progress line that is rewritten in place; only for a terminal. An empty text clears it. */
void log_progress(const char *text);

#endif
