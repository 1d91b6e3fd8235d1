/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/options.h"

#include "base/clock.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/signals.h"
#include "params/unit.h"
#include "vmm/qemu/qemu.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static double number(json_t *object, const char *name) {
    return json_number_value(json_object_get(object, name));
}

static void report_result(const struct options *o, json_t *report) {
    const char *status = json_string_value(json_object_get(report, "status"));
    if (o->json) {
        json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
        fputc('\n', stdout);
    } else if (!o->quiet && status != NULL && strcmp(status, "completed") == 0) {
        json_t *downtime = json_object_get(report, "downtime");
        printf("completed in %.1f s, %.0f MiB on the wire", number(report, "total-time") / 1e3,
               number(json_object_get(report, "ram"), "transferred") / (1 << 20));
        if (downtime != NULL) {
            printf(", the guest stood still for %.0f ms", json_number_value(downtime));
        }
        putchar('\n');
    }
    fflush(stdout);
    json_decref(report);
}

/* An error that came before there was a migration to report. Returns `status`. */
static int fail(const struct options *o, const struct error *err, int status) {
    log_error("%s", err->desc);
    if (o->json) {
        json_t *report = json_pack("{s:s, s:{s:s, s:s, s:s}}", "status", "failed", "error", "stage", "start", "class",
                                   error_class_name(err->class), "desc", err->desc);
        report_result(o, report);
    }
    return status;
}

enum { OPT_QMP = 256, OPT_PID, OPT_ADDRESS, OPT_SET, OPT_JSON, OPT_EVENTS, OPT_CONTROL, OPT_WAIT };

void options_help(FILE *out) {
    fputs("  --set NAME=VALUE  set a parameter (may be given many times; list below)\n"
          "  --pid PID         the VMM's process, when it is not the one that serves the monitor\n"
          "  --json            print one JSON object on stdout at the end, and nothing else there\n"
          "  --events FILE     append one JSON object a line while the migration runs\n"
          "  -v, --verbose     say more (twice: debug)\n"
          "  -q, --quiet       only errors\n"
          "  -h, --help        this text\n"
          "\n"
          "Exit status: 0 completed; 1 failed or cancelled, the guest runs where it ran; 2 wrong use;\n"
          "3 in doubt, the guest is paused on both sides.\n"
          "\n",
          out);
    params_help(out);
}

int parse_pid(const char *text, pid_t *pid, struct error *err) {
    int64_t number;
    if (unit_parse(UNIT_NONE, text, &number) != UNIT_READ || number < 1 || number > 1 << 22) {
        return error_set(err, ERROR_USAGE, "--pid %s: not a process id, which is a number from 1 to %d", text, 1 << 22);
    }
    *pid = (pid_t)number;
    return 0;
}

#define WAIT_MOST 86400

int parse_wait(const char *text, int64_t *wait, struct error *err) {
    int64_t seconds;
    if (unit_parse(UNIT_S, text, &seconds) != UNIT_READ || seconds > WAIT_MOST) {
        return error_set(err, ERROR_USAGE, "--wait %s: not a time from 0 to %d s; for example %s", text, WAIT_MOST,
                         unit_examples(UNIT_S));
    }
    *wait = seconds * CLOCK_S;
    return 0;
}

void options_log(const char *name, bool quiet, unsigned verbose) {
    log_setup(name, quiet ? LOG_ERROR : verbose > 1 ? LOG_DEBUG : verbose == 1 ? LOG_INFO : LOG_NOTICE);
}

static int take_option(struct options *o, int option, struct error *err) {
    switch (option) {
    case OPT_QMP:
        o->qmp_path = optarg;
        return 0;
    case OPT_PID:
        return parse_pid(optarg, &o->pid, err);
    case OPT_ADDRESS:
        o->has_address = true;
        return address_parse(optarg, &o->address, err);
    case OPT_SET:
        return params_set(&o->params, optarg, err);
    case OPT_WAIT:
        return o->takes_wait ? parse_wait(optarg, &o->wait, err)
                             : error_set(err, ERROR_USAGE, "'godwit %s' has no --wait", o->command);
    case OPT_JSON:
        o->json = true;
        return 0;
    case OPT_EVENTS:
        o->events_path = optarg;
        return 0;
    case OPT_CONTROL:
        o->control_path = optarg;
        return 0;
    case 'v':
        o->verbose++;
        return 0;
    case 'q':
        o->quiet = true;
        return 0;
    default:
        return error_set(err, ERROR_USAGE, "see 'godwit %s --help'", o->command);
    }
}

int options_miss_qmp(struct error *err) {
    return error_set(err, ERROR_USAGE, "--qmp is missing: the VMM's QMP socket, a path, unix:PATH or tcp:HOST:PORT");
}

static int check_complete(const struct options *o, int left, const char *extra, struct error *err) {
    if (left > 0) {
        return error_set(err, ERROR_USAGE, "what is '%s' for? See 'godwit %s --help'", extra, o->command);
    }
    if (o->qmp_path == NULL) {
        return options_miss_qmp(err);
    }
    if (!o->has_address) {
        return error_set(err, ERROR_USAGE, "--%s is missing: tcp:HOST:PORT or unix:PATH", o->address_name);
    }
    return 0;
}

enum parsed { PARSED, HELPED, WRONG };

static enum parsed parse(struct options *o, int argc, char **argv, void (*help)(FILE *out)) {
    const struct option names[] = {
        { "qmp", required_argument, NULL, OPT_QMP },
        { o->address_name, required_argument, NULL, OPT_ADDRESS },
        { "pid", required_argument, NULL, OPT_PID },
        { "set", required_argument, NULL, OPT_SET },
        { "json", no_argument, NULL, OPT_JSON },
        { "events", required_argument, NULL, OPT_EVENTS },
        { "control", required_argument, NULL, OPT_CONTROL },
        { "wait", required_argument, NULL, OPT_WAIT },
        { "verbose", no_argument, NULL, 'v' },
        { "quiet", no_argument, NULL, 'q' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    params_init(&o->params);
    struct error err = { 0 };
    int option;
    while ((option = getopt_long(argc, argv, "vqh", names, NULL)) != -1) {
        if (option == 'h') {
            help(stdout);
            return HELPED;
        }
        if (take_option(o, option, &err) < 0) {
            fail(o, &err, EXIT_USAGE);
            return WRONG;
        }
    }
    if (check_complete(o, argc - optind, argv[optind], &err) < 0) {
        fail(o, &err, EXIT_USAGE);
        return WRONG;
    }
    static char prefix[32];
    snprintf(prefix, sizeof(prefix), "godwit %s", o->command);
    options_log(prefix, o->quiet, o->verbose);
    return PARSED;
}

struct vmm *options_begin(struct options *o, int argc, char **argv, void (*help)(FILE *out), int *status) {
    enum parsed parsed = parse(o, argc, argv, help);
    if (parsed != PARSED) {
        *status = parsed == HELPED ? EXIT_DONE : EXIT_USAGE;
        return NULL;
    }
    struct error err = { 0 };
    log_adopt_libraries();
    o->signal_fd = signals_catch(&err);
    struct vmm *vmm = o->signal_fd < 0 ? NULL : vmm_qemu_open(o->qmp_path, o->pid, &err);
    if (vmm == NULL) {
        *status = fail(o, &err, EXIT_FAILED);
    }
    return vmm;
}

void options_end(const struct options *o, struct vmm *vmm, json_t *report) {
    vmm->ops->close(vmm);
    report_result(o, report);
}

int options_fail(bool json, const struct error *err, int status) {
    log_error("%s", err->desc);
    if (json) {
        json_t *root = json_pack("{s:s, s:{s:s, s:s}}", "status", "failed", "error", "class",
                                 error_class_name(err->class), "desc", err->desc);
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(root);
    }
    return status;
}
