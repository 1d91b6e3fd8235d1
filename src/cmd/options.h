/* SPDX-License-Identifier: Apache-2.0 */
/* What `send` and `receive` have in common on the command line, and before and after a migration. */
#ifndef GODWIT_CMD_OPTIONS_H
#define GODWIT_CMD_OPTIONS_H

#include "base/error.h"
#include "migrate/params.h"
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
    bool has_address;
    struct params params;
    const char *events_path, *control_path;
    bool json, quiet;
    unsigned verbose;
};

enum options_result { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_WRONG };

/* Parses; prints --help or what is wrong. */
enum options_result options_parse(struct options *o, int argc, char **argv, void (*help)(FILE *out));
/* Lines of --help that both share. */
void options_help(FILE *out);

/* Blocks the signals that end a migration in all threads that follow; readable when one came. -1 on error. */
int options_signals(struct error *err);

/* Prints an error that came before there was a migration to report, as --json wants it. Returns `status`. */
int options_fail(const struct options *o, const struct error *err, int status);
/* Prints the report: JSON on stdout with --json, else a line for people. Takes the reference. */
void options_report(const struct options *o, json_t *report);

#endif
