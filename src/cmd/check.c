/* SPDX-License-Identifier: Apache-2.0 */
/* godwit check: everything that would stop a migration, at both ends, before any of it is made. */
#include "migrate/check.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "vmm/qemu/qemu.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>

struct check_options {
    const char *qmp_path;
    pid_t pid;
    bool has_address, json;
    struct check_config config;
};

static void help(FILE *out) {
    fputs("Usage: godwit check --qmp SOCKET --to ADDRESS [OPTION]...\n"
          "\n"
          "Compares the guest of the QEMU behind SOCKET with the QEMU of the 'godwit receive' that waits at ADDRESS, "
          "and\n"
          "says everything that would stop a migration, and what else one should know before. Touches nothing: the\n"
          "guest runs on, and the receiver waits on.\n"
          "\n"
          "  --qmp SOCKET      the QMP monitor of the source QEMU: a path, unix:PATH, or tcp:HOST:PORT with\n"
          "                    --pid\n"
          "  --to ADDRESS      tcp:HOST:PORT or unix:PATH of 'godwit receive'\n"
          "  --wait SECONDS    try again for so long when nobody listens there (default: 0)\n"
          "  --set NAME=VALUE  a parameter as 'godwit send' would have it\n"
          "  --pid PID         the VMM's process, when it is not the one that serves the monitor\n"
          "  --json            print one JSON object: status (fine, refused), source and destination, each with\n"
          "                    refusals and remarks (texts), device-state-way (how it would go, and why), and\n"
          "                    params (what would be agreed)\n"
          "  -h, --help        this text\n"
          "\n"
          "Example: godwit check --qmp /run/vm1.qmp --to tcp:hostb:4914\n"
          "\n"
          "Exit status: 0 nothing stands against it; 1 something does, or it could not be checked; 2 wrong use.\n"
          "\n",
          out);
    params_help(out);
}

enum { OPT_QMP = 256, OPT_TO, OPT_WAIT, OPT_SET, OPT_PID, OPT_JSON };

static int take_option(struct check_options *o, int option, struct error *err) {
    switch (option) {
    case OPT_QMP:
        o->qmp_path = optarg;
        return 0;
    case OPT_TO:
        o->has_address = true;
        return address_parse(optarg, &o->config.to, err);
    case OPT_WAIT:
        return parse_wait(optarg, &o->config.wait, err);
    case OPT_SET:
        return params_set(&o->config.params, optarg, err);
    case OPT_PID:
        return parse_pid(optarg, &o->pid, err);
    case OPT_JSON:
        o->json = true;
        return 0;
    default:
        return error_set(err, ERROR_USAGE, "see 'godwit check --help'");
    }
}

/* 0; 1 when --help was all; -1. */
static int parse(struct check_options *o, int argc, char **argv, struct error *err) {
    static const struct option names[] = {
        { "qmp", required_argument, NULL, OPT_QMP },
        { "to", required_argument, NULL, OPT_TO },
        { "wait", required_argument, NULL, OPT_WAIT },
        { "set", required_argument, NULL, OPT_SET },
        { "pid", required_argument, NULL, OPT_PID },
        { "json", no_argument, NULL, OPT_JSON },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    int option;
    while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
        if (option == 'h') {
            help(stdout);
            return 1;
        }
        if (take_option(o, option, err) < 0) {
            return -1;
        }
    }
    if (optind < argc) {
        return error_set(err, ERROR_USAGE, "what is '%s' for? See 'godwit check --help'", argv[optind]);
    }
    if (o->qmp_path == NULL) {
        return options_miss_qmp(err);
    }
    if (!o->has_address) {
        return error_set(err, ERROR_USAGE, "--to is missing: tcp:HOST:PORT or unix:PATH of a waiting 'godwit receive'");
    }
    return 0;
}

static void print_texts(const char *what, const char *where, json_t *list) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        printf("%s (%s): %s\n", what, where, json_string_value(item));
    }
}

static void print_text(const struct check_result *r, bool fine) {
    print_texts("stops it", "source", r->source.refusals);
    print_texts("stops it", "destination", r->destination.refusals);
    print_texts("note", "source", r->source.remarks);
    print_texts("note", "destination", r->destination.remarks);
    size_t count = json_array_size(r->source.refusals) + json_array_size(r->destination.refusals);
    if (r->chosen && r->choice.way != VMM_WAY_SKIP) {
        printf("note (source): the device state would go another way (%s): %s\n", vmm_way_names[r->choice.way],
               r->choice.why);
    }
    if (fine) {
        puts("nothing stands against a migration");
    } else {
        printf("%zu %s against a migration\n", count, count == 1 ? "thing stands" : "things stand");
    }
}

static void print_json(const struct check_result *r, bool fine) {
    json_t *root = json_pack("{s:s, s:{s:O, s:O}, s:{s:O, s:O}}", "status", fine ? "fine" : "refused", "source",
                             "refusals", r->source.refusals, "remarks", r->source.remarks, "destination", "refusals",
                             r->destination.refusals, "remarks", r->destination.remarks);
    if (r->chosen) {
        json_object_set_new(root, "device-state-way",
                            json_pack("{s:s, s:s}", "way", vmm_way_names[r->choice.way], "why", r->choice.why));
    }
    if (r->params != NULL) {
        json_object_set(root, "params", r->params);
    }
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
}

int cmd_check(int argc, char **argv) {
    struct check_options o = { .config.wait = 0 };
    struct error err = { 0 };
    log_setup("godwit check", LOG_WARNING);
    params_init(&o.config.params);
    int parsed = parse(&o, argc, argv, &err);
    if (parsed != 0) {
        return parsed > 0 ? EXIT_DONE : options_fail(o.json, &err, EXIT_USAGE);
    }
    /* A signal ends it at once, wherever it is: there is nothing to put back. */
    signal(SIGPIPE, SIG_IGN);
    o.config.vmm = vmm_qemu_open(o.qmp_path, o.pid, &err);
    if (o.config.vmm == NULL) {
        return options_fail(o.json, &err, EXIT_FAILED);
    }
    struct check_result result;
    check_ask(&o.config, &result);
    o.config.vmm->ops->close(o.config.vmm);
    bool fine = json_array_size(result.source.refusals) == 0 && json_array_size(result.destination.refusals) == 0;
    (o.json ? print_json : print_text)(&result, fine);
    check_result_release(&result);
    return fine ? EXIT_DONE : EXIT_FAILED;
}
