/* SPDX-License-Identifier: Apache-2.0 */
/* godwit predict: whether a migration would end, when, and at what cost, before any of it is made. */
#include "base/clock.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "cmd/predict_report.h"
#include "cmd/signals.h"
#include "params/converge_params.h"
#include "params/unit.h"
#include "predict/rate.h"
#include "ram/block.h"
#include "vmm/qemu/qemu.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECONDS_DEFAULT 8
#define SECONDS_MOST 600
#define LEAST_LINK 100000 /* bits/s */
#define MOST_LINK INT64_C(10000000000000)

#define ROUND_TRIP CLOCK_MS
#define CONNECT (50 * CLOCK_MS)
/* Of a line's rate, what is left beside the headers of Ethernet, IP and TCP. */
#define PAYLOAD 0.95
/* With no completion-timeout. */
#define MOST_TIME (3600 * CLOCK_S)

struct predict_options {
    const char *qmp_path;
    pid_t pid;
    struct address to;
    bool has_address, json, quiet;
    double link; /* bits/s; 0: to be measured */
    int64_t seconds;
    struct params params;
};

static void help(FILE *out) {
    fputs(
        "Usage: godwit predict --qmp SOCKET (--to ADDRESS | --link RATE) [OPTION]...\n"
        "\n"
        "Watches the running guest of the QEMU behind SOCKET for some seconds and says for each throttle-policy\n"
        "whether a migration would end, how long it would take, how long the guest would stand still, and how much\n"
        "would be sent. The guest runs on, and nothing of it is sent.\n"
        "\n"
        "  --qmp SOCKET      the QMP monitor of the QEMU: a path, unix:PATH, or tcp:HOST:PORT with\n"
        "                    --pid\n"
        "  --to ADDRESS      tcp:HOST:PORT or unix:PATH of a waiting 'godwit receive': what the link to it carries is\n"
        "                    measured with filler, for a second or two; it goes on waiting\n"
        "  --link RATE       the link's rate instead: 1gbit, 100mbit/s, or bits a second with k, M, G\n"
        "  --seconds N       how long the guest is watched, 1..600 (default: 8)\n"
        "  --set NAME=VALUE  a parameter as 'godwit send' would have it; with throttle-policy the exit status is of "
        "that\n"
        "                    policy\n"
        "  --pid PID         the VMM's process, when it is not the one that serves the monitor\n"
        "  --json            print one JSON object, and nothing else on stdout\n"
        "  -q, --quiet       only errors on stderr\n"
        "  -h, --help        this text\n"
        "\n"
        "Exit status: 0 the recommended policy, or the one that was set, ends; 1 nothing could be said; 2 wrong use;\n"
        "4 it would not end, or not surely.\n"
        "\n",
        out);
    params_help(out);
}

static int parse_rate(const char *text, double *rate, struct error *err) {
    int64_t bits;
    if (unit_parse(UNIT_BITS_PER_S, text, &bits) != UNIT_READ || bits < LEAST_LINK || bits > MOST_LINK) {
        return error_set(err, ERROR_USAGE, "--link %s: not a rate from 100kbit/s to 10tbit/s; for example %s", text,
                         unit_examples(UNIT_BITS_PER_S));
    }
    *rate = (double)bits;
    return 0;
}

static int parse_seconds(const char *text, int64_t *seconds, struct error *err) {
    if (unit_parse(UNIT_S, text, seconds) != UNIT_READ || *seconds < 1 || *seconds > SECONDS_MOST) {
        return error_set(err, ERROR_USAGE, "--seconds %s: not a time from 1 to %d s; for example 8, 30s or 2min", text,
                         SECONDS_MOST);
    }
    return 0;
}

enum { OPT_QMP = 256, OPT_TO, OPT_LINK, OPT_SECONDS, OPT_SET, OPT_PID, OPT_JSON };

static int take_option(struct predict_options *o, int option, struct error *err) {
    switch (option) {
    case OPT_QMP:
        o->qmp_path = optarg;
        return 0;
    case OPT_TO:
        o->has_address = true;
        return address_parse(optarg, &o->to, err);
    case OPT_LINK:
        return parse_rate(optarg, &o->link, err);
    case OPT_SECONDS:
        return parse_seconds(optarg, &o->seconds, err);
    case OPT_PID:
        return parse_pid(optarg, &o->pid, err);
    case OPT_SET:
        return params_set(&o->params, optarg, err);
    case OPT_JSON:
        o->json = true;
        return 0;
    case 'q':
        o->quiet = true;
        return 0;
    default:
        return error_set(err, ERROR_USAGE, "see 'godwit predict --help'");
    }
}

static int check_complete(const struct predict_options *o, int left, const char *extra, struct error *err) {
    if (left > 0) {
        return error_set(err, ERROR_USAGE, "what is '%s' for? See 'godwit predict --help'", extra);
    }
    if (o->qmp_path == NULL) {
        return options_miss_qmp(err);
    }
    if (o->has_address == (o->link > 0)) {
        return error_set(err, ERROR_USAGE,
                         o->has_address
                             ? "--to measures the link and --link says what it carries: give one of them"
                             : "over which link? --to ADDRESS of a waiting 'godwit receive', or --link RATE");
    }
    return 0;
}

/* 0; 1 when --help was all; -1. */
static int parse(struct predict_options *o, int argc, char **argv, struct error *err) {
    static const struct option names[] = { { "qmp", required_argument, NULL, OPT_QMP },
                                           { "to", required_argument, NULL, OPT_TO },
                                           { "link", required_argument, NULL, OPT_LINK },
                                           { "seconds", required_argument, NULL, OPT_SECONDS },
                                           { "set", required_argument, NULL, OPT_SET },
                                           { "pid", required_argument, NULL, OPT_PID },
                                           { "json", no_argument, NULL, OPT_JSON },
                                           { "quiet", no_argument, NULL, 'q' },
                                           { "help", no_argument, NULL, 'h' },
                                           { 0 } };
    int option;
    while ((option = getopt_long(argc, argv, "qh", names, NULL)) != -1) {
        if (option == 'h') {
            help(stdout);
            return 1;
        }
        if (take_option(o, option, err) < 0) {
            return -1;
        }
    }
    return check_complete(o, argc - optind, argv[optind], err);
}

static void price(struct sim_guest *guest, double wire_rate, double cpus, void *opaque) {
    const struct watch *w = opaque;
    struct content_means means = { .gather_ns = w->gather_ns,
                                   .cpus = w->plan.cpu_share * cpus,
                                   .budget = w->budget,
                                   .stretch = w->all.stretch,
                                   .threads = w->plan.compress_threads,
                                   .channels = PREDICT_CHANNELS,
                                   .wire_rate = wire_rate };
    means.stretch /= cpus; /* what others take shows in both */
    double look = w->gather_ns * RAM_PAGE_SIZE / content_cpus(&means);
    guest->full = content_cost(&w->all, &means, NULL, NULL);
    guest->again = w->dirty.count > 0 ? content_cost(&w->dirty, &means, NULL, NULL) : guest->full;
    guest->zero = (struct sim_cost){ 0, look / 2 };
    guest->look = (struct sim_cost){ 0, look };
    guest->change = (struct sim_cost){ w->change_bytes + 16, 2 * look };
}

static struct outlook_question question_of(const struct predict_options *o, struct watch *w, const struct rate *rate) {
    struct outlook_question q = {
        .guest = { .trace = &w->trace,
                   .content = w->kinds,
                   .ram = w->ram,
                   .unchanged = o->params.value[PARAM_PAGE_DIGESTS] ? w->unchanged : 0,
                   .changes = w->changes,
                   .cache_pages = w->plan.delta_cache / RAM_PAGE_SIZE },
        .setting = { .converge = converge_params(&o->params),
                     .can_throttle = w->can_throttle,
                     .scan = w->scan,
                     .drain = w->answer,
                     .round_trip = rate->round_trip > 0 ? rate->round_trip : ROUND_TRIP,
                     .setup = CONNECT + w->attach,
                     .most = MOST_TIME },
        .wire_rate = rate->bytes,
        .price = price,
        .opaque = w,
    };
    int64_t limit = o->params.value[PARAM_MAX_BANDWIDTH];
    if (limit > 0 && (double)limit < q.wire_rate) {
        q.wire_rate = (double)limit;
    }
    return q;
}

static int inspect(struct vmm *vmm, bool quiet, struct error *err) {
    bool running = true;
    if (vmm_inspect(vmm, VMM_SOURCE, err) < 0 || vmm->ops->guest_running(vmm, &running, err) < 0) {
        return -1;
    }
    if (!running && !quiet) {
        log_warning("the guest is paused: what is said holds as long as it is");
    }
    return 0;
}

static int predict(const struct predict_options *o, struct vmm *vmm, int signal_fd, int *status, struct error *err) {
    struct rate rate = { .bytes = o->link / 8 * PAYLOAD };
    if (inspect(vmm, o->quiet, err) < 0 || (o->has_address && rate_measure(&o->to, signal_fd, &rate, err) < 0)) {
        return -1;
    }
    struct watch_config config = { .vmm = vmm,
                                   .params = &o->params,
                                   .time = o->seconds * CLOCK_S,
                                   .signal_fd = signal_fd,
                                   .progress = !o->quiet && isatty(STDERR_FILENO) };
    struct watch w;
    struct outlook outlook;
    int rc = watch_guest(&config, &w, err);
    if (rc == 0) {
        signals_release(); /* nothing is left in the guest: whoever wants an end can have it at once */
        struct outlook_question q = question_of(o, &w, &rate);
        struct predict_report report = {
            .params = &o->params, .watch = &w, .question = &q, .outlook = &outlook, .measured = o->has_address
        };
        rc = outlook_make(&q, &outlook, err);
        if (rc == 0) {
            rc = o->json ? predict_print_json(&report, err) : predict_print_text(&report, err);
            *status = predict_ends(&report) ? EXIT_DONE : EXIT_WILL_NOT_END;
        }
    }
    watch_free(&w);
    return rc;
}

int cmd_predict(int argc, char **argv) {
    struct predict_options o = { .seconds = SECONDS_DEFAULT };
    struct error err = { 0 };
    log_setup("godwit predict", LOG_WARNING);
    params_init(&o.params);
    int parsed = parse(&o, argc, argv, &err);
    if (parsed != 0) {
        return parsed > 0 ? EXIT_DONE : options_fail(o.json, &err, EXIT_USAGE);
    }
    log_setup("godwit predict", o.quiet ? LOG_ERROR : LOG_WARNING);
    int signal_fd = signals_catch(&err), status = EXIT_DONE;
    struct vmm *vmm = signal_fd < 0 ? NULL : vmm_qemu_open(o.qmp_path, o.pid, &err);
    int rc = vmm != NULL ? predict(&o, vmm, signal_fd, &status, &err) : -1;
    if (vmm != NULL) {
        vmm->ops->close(vmm);
    }
    if (signal_fd >= 0) {
        close(signal_fd);
    }
    return rc < 0 ? options_fail(o.json, &err, EXIT_FAILED) : status;
}
