/* SPDX-License-Identifier: Apache-2.0 */
/* status, set, cancel: small clients of a running migration's control socket. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "vmm/qemu/qmp.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

struct request {
    const char *command; /* the subcommand's name */
    const char *usage;
    const char *execute; /* the QMP command */
    bool takes_settings; /* NAME=VALUE behind the options */
};

#define CONTROL_TIMEOUT (10 * CLOCK_S)

static int wrong(const struct request *r) {
    fprintf(stderr, "Usage: godwit %s\n", r->usage);
    return EXIT_USAGE;
}

/* {"NAME": "VALUE"}: the migration parses numbers and words itself. */
static json_t *settings(char **argv, int count) {
    json_t *object = json_object();
    for (int i = 0; i < count; i++) {
        char *eq = strchr(argv[i], '=');
        if (eq == NULL) {
            json_decref(object);
            return NULL;
        }
        *eq = '\0';
        json_object_set_new(object, argv[i], json_string(eq + 1));
    }
    return object;
}

static int ask(const struct request *r, const char *path, json_t *arguments) {
    struct error err = { 0 };
    struct qmp *qmp = qmp_connect(path, CONTROL_TIMEOUT, &err);
    json_t *answer = NULL;
    if (qmp == NULL || qmp_negotiate(qmp, CONTROL_TIMEOUT, &err) < 0 ||
        qmp_execute(qmp, r->execute, arguments, &answer, CONTROL_TIMEOUT, &err) < 0) {
        log_setup("godwit", LOG_WARNING);
        log_error("%s", err.desc);
        qmp_close(qmp);
        return EXIT_FAILED;
    }
    if (json_object_size(answer) > 0) {
        json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
        putchar('\n');
    }
    json_decref(answer);
    qmp_close(qmp);
    return EXIT_DONE;
}

static int run(const struct request *r, int argc, char **argv) {
    static const struct option names[] = { { "control", required_argument, NULL, 'c' },
                                           { "help", no_argument, NULL, 'h' },
                                           { 0 } };
    const char *path = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
        if (option == 'h') {
            printf("Usage: godwit %s\n\nSOCKET is what 'godwit send' was given with --control.\n", r->usage);
            return EXIT_DONE;
        }
        if (option != 'c') {
            return wrong(r);
        }
        path = optarg;
    }
    int left = argc - optind;
    if (path == NULL || (r->takes_settings ? left == 0 : left != 0)) {
        return wrong(r);
    }
    json_t *arguments = r->takes_settings ? settings(argv + optind, left) : NULL;
    if (r->takes_settings && arguments == NULL) {
        return wrong(r);
    }
    return ask(r, path, arguments);
}

int cmd_status(int argc, char **argv) {
    static const struct request r = { "status", "status --control SOCKET", "query-migrate", false };
    return run(&r, argc, argv);
}

int cmd_set(int argc, char **argv) {
    static const struct request r = { "set", "set --control SOCKET NAME=VALUE...", "migrate-set-parameters", true };
    return run(&r, argc, argv);
}

int cmd_cancel(int argc, char **argv) {
    static const struct request r = { "cancel", "cancel --control SOCKET", "migrate_cancel", false };
    return run(&r, argc, argv);
}
