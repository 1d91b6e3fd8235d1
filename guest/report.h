/* SPDX-License-Identifier: Apache-2.0 */
/* What the load tells the world on the serial console, and the counts behind it. Safe from any thread. */
#ifndef GUEST_REPORT_H
#define GUEST_REPORT_H

#include "content.h"

#include <stdatomic.h>
#include <stdint.h>

struct report {
    atomic_uint_fast64_t dirtied;  /* pages written */
    atomic_uint_fast64_t checked;  /* pages read and found right or wrong */
    atomic_uint_fast64_t disk_ops; /* reads and writes of the disk */
    atomic_uint_fast64_t errors;   /* things that were not as they must be */
};

extern struct report report;

int report_open(const char *tty);

/* One line. Each call is one write(), which the tty keeps in one piece. */
void report_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Counts an error and prints "ERROR " and the text, unless hundreds were printed already. */
void report_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Checks `data` and reports it as `what` when it is wrong. */
void report_check(const char *what, const void *data, const struct content *content);

/* Milliseconds of guest time since boot. */
uint64_t report_uptime(void);

#endif
