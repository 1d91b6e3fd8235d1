/* SPDX-License-Identifier: Apache-2.0 */
/* godwit relay: QEMU's own migrations go through it, as they are. */
#include "base/clock.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "cmd/signals.h"
#include "migrate/events.h"
#include "params/unit.h"
#include "relay/service.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SILENCE_DEFAULT (10 * CLOCK_S)
#define SILENCE_LEAST 3 /* s: three words of one who has nothing to say */
#define SILENCE_MOST 3600

struct relay_options {
    struct relay_config config;
    bool has_from, has_to, has_listen, has_deliver;
    const char *events_path;
    bool quiet;
    unsigned verbose;
};

static void help(FILE *out) {
    fputs(
        "Usage: godwit relay --from ADDRESS --to ADDRESS [OPTION]...\n"
        "       godwit relay --listen ADDRESS --deliver ADDRESS|original [OPTION]...\n"
        "\n"
        "Stands between the two QEMUs of their own migrations ('migrate', virsh migrate), one relay on each host, and\n"
        "carries what they say, byte for byte, each byte checked by a digest before it is given out. A service: takes\n"
        "any number of migrations, one after the other and side by side, until a signal ends it.\n"
        "\n"
        "On the source's host:\n"
        "  --from ADDRESS    where QEMU migrates to: unix:PATH, tcp:HOST:PORT, or redirect:PORT, a port of this\n"
        "                    host's loopback to which the firewall redirects what QEMU connects to\n"
        "  --to ADDRESS      the relay on the destination's host: tcp:HOST:PORT or unix:PATH\n"
        "On the destination's host:\n"
        "  --listen ADDRESS  where the source's relay connects to: tcp:HOST:PORT or unix:PATH\n"
        "  --deliver WHERE   the QEMU that waits for the guest: unix:PATH, tcp:HOST:PORT, or original: where the\n"
        "                    source's QEMU wanted to go, which only --from redirect:PORT knows\n"
        "  --allow HOST[/BITS]:PORT[-PORT]\n"
        "                    with original: where that may be, in numbers; may be given many times. Nothing else is\n"
        "                    ever connected to\n"
        "On both:\n"
        "  --silence SECONDS another relay that says nothing for so long is gone, 3..3600 (default: 10)\n"
        "  --events FILE     append one JSON object a line\n"
        "  -v, --verbose     say more (twice: debug)\n"
        "  -q, --quiet       only errors\n"
        "  -h, --help        this text\n"
        "\n"
        "Exit status: 0 a signal asked for the end, and it was made when the migrations under way had ended (one that\n"
        "has yet to open a connection fails; a second signal cuts all off: their guests run on at the source, but not\n"
        "in postcopy; see 'WHEN IT BREAKS' in the man page); 1 failed; 2 wrong use.\n",
        out);
}

static int parse_from(struct relay_options *o, const char *text, struct error *err) {
    o->has_from = true;
    if (strncmp(text, "redirect:", 9) != 0) {
        return address_parse(text, &o->config.at, err);
    }
    int64_t port;
    if (unit_parse(UNIT_NONE, text + 9, &port) != UNIT_READ || port < 1 || port > UINT16_MAX) {
        return error_set(err, ERROR_USAGE, "--from %s: not redirect:PORT with a port from 1 to 65535", text);
    }
    o->config.redirected = true;
    o->config.at.kind = ADDRESS_TCP;
    snprintf(o->config.at.port, sizeof(o->config.at.port), "%d", (int)port);
    return 0;
}

static int parse_deliver(struct relay_options *o, const char *text, struct error *err) {
    o->has_deliver = true;
    o->config.original = strcmp(text, "original") == 0;
    return o->config.original ? 0 : address_parse(text, &o->config.to, err);
}

static int parse_silence(struct relay_options *o, const char *text, struct error *err) {
    int64_t seconds;
    if (unit_parse(UNIT_S, text, &seconds) != UNIT_READ || seconds < SILENCE_LEAST || seconds > SILENCE_MOST) {
        return error_set(err, ERROR_USAGE, "--silence %s: not a time from %d to %d s; for example %s", text,
                         SILENCE_LEAST, SILENCE_MOST, unit_examples(UNIT_S));
    }
    o->config.silence = seconds * CLOCK_S;
    return 0;
}

enum { OPT_FROM = 256, OPT_TO, OPT_LISTEN, OPT_DELIVER, OPT_ALLOW, OPT_SILENCE, OPT_EVENTS };

static int take_option(struct relay_options *o, int option, struct error *err) {
    switch (option) {
    case OPT_FROM:
        return parse_from(o, optarg, err);
    case OPT_TO:
        o->has_to = true;
        return address_parse(optarg, &o->config.to, err);
    case OPT_LISTEN:
        o->has_listen = true;
        return address_parse(optarg, &o->config.at, err);
    case OPT_DELIVER:
        return parse_deliver(o, optarg, err);
    case OPT_ALLOW:
        return allow_add(&o->config.allow, optarg, err);
    case OPT_SILENCE:
        return parse_silence(o, optarg, err);
    case OPT_EVENTS:
        o->events_path = optarg;
        return 0;
    case 'v':
        o->verbose++;
        return 0;
    case 'q':
        o->quiet = true;
        return 0;
    default:
        return error_set(err, ERROR_USAGE, "see 'godwit relay --help'");
    }
}

static int check_complete(struct relay_options *o, struct error *err) {
    bool source = o->has_from || o->has_to, destination = o->has_listen || o->has_deliver;
    if (source == destination) {
        return error_set(err, ERROR_USAGE,
                         "on which side? --from and --to on the source's host, --listen and --deliver on the "
                         "destination's; see 'godwit relay --help'");
    }
    if (source && !o->has_from) {
        return error_set(err, ERROR_USAGE, "--from is missing: unix:PATH, tcp:HOST:PORT or redirect:PORT");
    }
    if (source && !o->has_to) {
        return error_set(err, ERROR_USAGE, "--to is missing: the other relay, tcp:HOST:PORT or unix:PATH");
    }
    if (destination && !o->has_listen) {
        return error_set(err, ERROR_USAGE, "--listen is missing: tcp:HOST:PORT or unix:PATH");
    }
    if (destination && !o->has_deliver) {
        return error_set(err, ERROR_USAGE, "--deliver is missing: unix:PATH, tcp:HOST:PORT or original");
    }
    if (o->config.original != (o->config.allow.count > 0)) {
        return error_set(err, ERROR_USAGE,
                         o->config.original
                             ? "--allow is missing: with --deliver original nothing may be delivered to that it does "
                               "not name; for example --allow 192.0.2.7:49152-49215"
                             : "--allow is for --deliver original; another relay delivers to one address only");
    }
    o->config.role = source ? RELAY_AT_SOURCE : RELAY_AT_DESTINATION;
    return 0;
}

/* 0; 1 when --help was all; -1. */
static int parse(struct relay_options *o, int argc, char **argv, struct error *err) {
    static const struct option names[] = { { "from", required_argument, NULL, OPT_FROM },
                                           { "to", required_argument, NULL, OPT_TO },
                                           { "listen", required_argument, NULL, OPT_LISTEN },
                                           { "deliver", required_argument, NULL, OPT_DELIVER },
                                           { "allow", required_argument, NULL, OPT_ALLOW },
                                           { "silence", required_argument, NULL, OPT_SILENCE },
                                           { "events", required_argument, NULL, OPT_EVENTS },
                                           { "verbose", no_argument, NULL, 'v' },
                                           { "quiet", no_argument, NULL, 'q' },
                                           { "help", no_argument, NULL, 'h' },
                                           { 0 } };
    int option;
    while ((option = getopt_long(argc, argv, "vqh", names, NULL)) != -1) {
        if (option == 'h') {
            help(stdout);
            return 1;
        }
        if (take_option(o, option, err) < 0) {
            return -1;
        }
    }
    if (optind < argc) {
        return error_set(err, ERROR_USAGE, "what is '%s' for? See 'godwit relay --help'", argv[optind]);
    }
    return check_complete(o, err);
}

static void emit(void *opaque, const char *name, json_t *fields) {
    events_emit(opaque, name, fields);
}

/* A connection that hangs is left behind, and has all of this until the process ends. */
static int run(struct relay_options *o, struct error *err) {
    static struct events events;
    bool left = false;
    if ((o->config.signal_fd = signals_catch(err)) < 0 || events_open(&events, o->events_path, err) < 0) {
        return -1;
    }
    o->config.event = emit;
    o->config.opaque = &events;
    int rc = service_run(&o->config, &left, err);
    if (!left) {
        events_close(&events);
        close(o->config.signal_fd);
    }
    return rc;
}

int cmd_relay(int argc, char **argv) {
    static struct relay_options o = { .config = { .silence = SILENCE_DEFAULT } };
    struct error err = { 0 };
    log_setup("godwit relay", LOG_NOTICE);
    int parsed = parse(&o, argc, argv, &err);
    if (parsed != 0) {
        return parsed > 0 ? EXIT_DONE : options_fail(false, &err, EXIT_USAGE);
    }
    options_log("godwit relay", o.quiet, o.verbose);
    return run(&o, &err) < 0 ? options_fail(false, &err, EXIT_FAILED) : EXIT_DONE;
}
