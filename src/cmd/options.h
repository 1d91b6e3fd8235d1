/* SPDX-License-Identifier: Apache-2.0 */
/* What `send` and `receive` have in common on the command line, and before and after a migration. */
#ifndef GODWIT_CMD_OPTIONS_H
#define GODWIT_CMD_OPTIONS_H

#include "base/error.h"
#include "params/params.h"
#include "vmm/vmm.h"
#include "wire/address.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

struct options {
    const char *command;      /* "send" or "receive" */
    const char *address_name; /* "to" or "listen" */
    const char *qmp_path;
    pid_t pid; /* 0: whoever serves the monitor */
    struct address address;
    bool has_address, takes_wait;
    int64_t wait; /* ns, by --wait; the command fills in its default */
    struct params params;
    const char *events_path, *control_path;
    bool json, quiet;
    unsigned verbose;
    int signal_fd; /* readable when a signal asks for the end; set by options_begin() */
};

/* Parses, prints --help or what is wrong, opens the VMM and blocks the signals that end a migration in all threads that
 * follow. NULL: there is nothing to run, and *status is the exit status. */
struct vmm *options_begin(struct options *o, int argc, char **argv, void (*help)(FILE *out), int *status);
/* --wait, in ns, and --pid, of any command. */
int parse_wait(const char *text, int64_t *wait, struct error *err);
int parse_pid(const char *text, pid_t *pid, struct error *err);
/* Lines of --help that both share. */
void options_help(FILE *out);

/* Closes the VMM and prints the report: JSON on stdout with --json, else a line for people. Takes the reference. */
void options_end(const struct options *o, struct vmm *vmm, json_t *report);

/* What --qmp would have been. Returns -1. */
int options_miss_qmp(struct error *err);

/* What is said on stderr, and as whose words: -q, -v, -vv. `name` must live as long as the process. */
void options_log(const char *name, bool quiet, unsigned verbose);

/* A command that failed before it had anything to report: says why on stderr, and with `json` as the one object on
 * stdout. Returns `status`. */
int options_fail(bool json, const struct error *err, int status);

#endif
