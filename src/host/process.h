/* SPDX-License-Identifier: Apache-2.0 */
/* What /proc says of a process. Everything in it is untrusted text: parsed with bounds, never assumed. */
#ifndef GODWIT_HOST_PROCESS_H
#define GODWIT_HOST_PROCESS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* One line of /proc/PID/maps. */
struct mapping {
    uint64_t start, end; /* addresses in the process, bytes, page aligned */
    uint64_t offset;     /* bytes into the file at `start` */
    dev_t device;
    ino_t inode; /* 0: not a file */
    bool readable, writable, executable, shared;
    char path[256]; /* as printed, cut to fit; "" when there is none */
};

/* All mappings, in address order. The caller frees *list with free(). */
int process_mappings(pid_t pid, struct mapping **list, size_t *count, struct error *err);

/* Parses one line of /proc/PID/maps, with or without its newline; false when it is not one. A fuzz target. */
bool process_parse_mapping(const char *line, struct mapping *m);

/* Opens the file behind a mapping (through /proc/PID/map_files, so mount namespaces and unlinked files do not matter).
 * `flags` as for open(2); O_CLOEXEC is added. Returns a descriptor or -1. */
int process_open_mapping(pid_t pid, const struct mapping *m, int flags, struct error *err);

/* The command line: NULL-terminated array of strings in one allocation; the caller frees it with free(). */
char **process_command_line(pid_t pid, struct error *err);

/* Looks for an open descriptor of the process whose /proc/PID/fd link starts with `prefix`.
 * Returns 1 and copies the link to `found`, 0 when there is none, -1 on error. */
int process_find_descriptor(pid_t pid, const char *prefix, char *found, size_t found_size, struct error *err);

/* Looks for any process but `pid` and the caller that has the file (device, inode) mapped.
 * Returns 1 with *other and its name, 0 when none is seen, -1 on error. Processes that end meanwhile are ignored.
 * Processes whose maps we may not read (another user's when we are not root; those of an outer user namespace) are
 * named in a warning; those outside our PID namespace are not seen at all. */
int process_find_other_mapper(pid_t pid, dev_t device, ino_t inode, pid_t *other, char *name, size_t name_size,
                              struct error *err);

/* The thread or process that ptraces `pid` now, 0 for none, -1 on error. */
pid_t process_tracer(pid_t pid, struct error *err);

/* The decimal number behind `field` ("TracerPid", "Seccomp") in /proc/PID/status; 0 when there is no such field, -1 on
 * error. `pid` may be a thread. */
int64_t process_status_number(pid_t pid, const char *field, struct error *err);

/* When the process started, in clock ticks since the boot: with its id that names it for good. */
int process_start_time(pid_t pid, uint64_t *ticks, struct error *err);

/* Whether the process is gone, or has ended and is only waited for by its parent (a zombie). */
bool process_has_ended(pid_t pid);

/* A descriptor that stands for the process, whoever has its id later; -1 on error, ERROR_VMM when there is none. */
int process_hold(pid_t pid, struct error *err);
/* Whether the process of process_hold() has ended. */
bool process_held_has_ended(int pidfd);

/* Turns the ids that a process gives for its own threads, counted in its own pid namespace, into those that we know
 * them by, in place. Where both are in one namespace they are the same. -1 also when a thread is not there. */
int process_outer_threads(pid_t pid, pid_t *ids, size_t count, struct error *err);

/* The innermost id of a line "NSpid:\tOUTER\t…\tINNER" of /proc/PID/status; 0 when it is none. A fuzz target. */
pid_t process_parse_nspid(const char *line);

/* Copies the process's short name to `name`, "?" when it cannot be had. */
void process_name(pid_t pid, char *name, size_t name_size);

#endif
