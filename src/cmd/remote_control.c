/* SPDX-License-Identifier: Apache-2.0 */
/* status, set, cancel: small clients of a running migration's control socket. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "params/params.h"
#include "vmm/qemu/qmp.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

struct request {
    const char *command; /* the subcommand's name */
    const char *usage, *example, *help;
    const char *execute; /* the QMP command */
    bool takes_settings; /* NAME=VALUE behind the options */
    bool takes_text;     /* --text */
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

/* Takes the reference to `arguments`. NULL on error. */
static json_t *execute(struct qmp *qmp, const char *command, json_t *arguments, struct error *err) {
    json_t *answer = NULL;
    return qmp_execute(qmp, command, arguments, &answer, CONTROL_TIMEOUT, err) < 0 ? NULL : answer;
}

/* What holds now for the names in `which` (NULL: all), as people write it: the other side's limit may be stricter. */
static int show_params(struct qmp *qmp, json_t *which, struct error *err) {
    json_t *now = execute(qmp, "query-migrate-parameters", NULL, err), *shown = json_object(), *value;
    const char *name;
    int rc = now == NULL ? -1 : 0;
    json_object_foreach(now, name, value) {
        if (which == NULL || json_object_get(which, name) != NULL) {
            json_object_set(shown, name, value);
        }
    }
    rc = rc == 0 ? params_show(shown, false, stdout, err) : rc;
    json_decref(now);
    json_decref(shown);
    return rc;
}

static double number(json_t *object, const char *name) {
    return json_number_value(json_object_get(object, name));
}

/* The figures that an operator looks for, with their units. Stages that are yet to come have none. */
static void show_status(json_t *answer) {
    const char *status = json_string_value(json_object_get(answer, "status"));
    const char *stage = json_string_value(json_object_get(answer, "stage"));
    json_t *ram = json_object_get(answer, "ram"), *expected = json_object_get(answer, "expected-downtime");
    printf("%s (%s), %.1f s\n", status ? status : "?", stage ? stage : "?", number(answer, "total-time") / 1e3);
    printf("  %-26s %.0f of %.0f MiB RAM, %.0f MiB on the wire, %.0f Mbit/s\n", "pass",
           (number(ram, "total") - number(ram, "remaining")) / (1 << 20), number(ram, "total") / (1 << 20),
           number(ram, "transferred") / (1 << 20), number(ram, "mbps"));
    printf("  %-26s %.1f MiB/s\n", "written by the guest", number(ram, "dirty-pages-rate") * 4096 / (1 << 20));
    printf("  %-26s %.0f%%\n", "held back", number(answer, "cpu-throttle-percentage"));
    if (expected != NULL) {
        printf("  %-26s %.0fms\n", "pause if it stopped now", json_number_value(expected));
    }
    puts("parameters:");
}

static void show_json(json_t *answer) {
    if (json_object_size(answer) > 0) {
        json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
        putchar('\n');
    }
}

static int ask(const struct request *r, const char *path, json_t *arguments, bool text) {
    struct error err = { 0 };
    json_t *kept = json_incref(arguments), *answer = NULL;
    struct qmp *qmp = qmp_connect(path, CONTROL_TIMEOUT, &err);
    if (qmp == NULL || qmp_negotiate(qmp, CONTROL_TIMEOUT, &err) < 0) {
        json_decref(arguments);
    } else if ((answer = execute(qmp, r->execute, arguments, &err)) != NULL) {
        (text ? show_status : show_json)(answer);
        if ((text || r->takes_settings) && show_params(qmp, kept, &err) < 0) {
            error_prefix(&err, "it is done, but what holds now is not known: ");
        }
    }
    if (error_is_set(&err)) {
        log_setup("godwit", LOG_WARNING);
        log_error("%s", err.desc);
    }
    json_decref(answer);
    json_decref(kept);
    qmp_close(qmp);
    return error_is_set(&err) ? EXIT_FAILED : EXIT_DONE;
}

static int run(const struct request *r, int argc, char **argv) {
    static const struct option names[] = {
        { "control", required_argument, NULL, 'c' },
        { "text", no_argument, NULL, 't' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    const char *path = NULL;
    bool text = false;
    int option;
    while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
        if (option == 'h') {
            printf("Usage: godwit %s\n\n%s\n"
                   "  --control SOCKET  what 'godwit send' or 'godwit receive' was given with --control\n%s"
                   "  -h, --help        this text\n"
                   "\n"
                   "Example: godwit %s\n"
                   "\n"
                   "Exit status: 0 done; 1 refused, or nobody is there; 2 wrong use.\n",
                   r->usage, r->help, r->takes_text ? "  --text            for people, with units\n" : "", r->example);
            return EXIT_DONE;
        }
        if (option != 'c' && !(option == 't' && r->takes_text)) {
            return wrong(r);
        }
        text |= option == 't';
        path = option == 'c' ? optarg : path;
    }
    int left = argc - optind;
    if (path == NULL || (r->takes_settings ? left == 0 : left != 0)) {
        return wrong(r);
    }
    json_t *arguments = r->takes_settings ? settings(argv + optind, left) : NULL;
    if (r->takes_settings && arguments == NULL) {
        return wrong(r);
    }
    return ask(r, path, arguments, text);
}

int cmd_status(int argc, char **argv) {
    static const struct request r = {
        .command = "status",
        .usage = "status --control SOCKET [--text]",
        .example = "status --control /run/vm1.godwit --text",
        .help =
            "Prints how a running migration goes: the answer to query-migrate, a JSON object (times in ms, sizes in\n"
            "bytes, rates in pages or Mbit a second); with --text a summary and all parameters, with their units.\n",
        .execute = "query-migrate",
        .takes_text = true,
    };
    return run(&r, argc, argv);
}

int cmd_set(int argc, char **argv) {
    static const struct request r = {
        .command = "set",
        .usage = "set --control SOCKET NAME=VALUE...",
        .example = "set --control /run/vm1.godwit max-bandwidth=1gbit downtime-limit=500ms",
        .help =
            "Changes parameters of a running migration, all of them or none, and prints what holds now: the other\n"
            "side's limit may be stricter. 'godwit send --help' lists them; those that say 'live' can be changed.\n",
        .execute = "migrate-set-parameters",
        .takes_settings = true,
    };
    return run(&r, argc, argv);
}

int cmd_cancel(int argc, char **argv) {
    static const struct request r = {
        .command = "cancel",
        .usage = "cancel --control SOCKET",
        .example = "cancel --control /run/vm1.godwit",
        .help = "Ends a running migration; the guest runs on where it is.\n",
        .execute = "migrate_cancel",
    };
    return run(&r, argc, argv);
}
