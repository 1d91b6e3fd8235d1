/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include "base/clock.h"
#include "number.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
    "stunt: a guest that looks like QEMU from outside, for tests\n"
    "  --qmp PATH                      unix socket to listen on\n"
    "  --ram ID,size=BYTES,path=FILE   a block of RAM; may be repeated; path=anonymous: memory of its own\n"
    "  --incoming defer                wait for migrate-incoming (also -incoming)\n"
    "  -S                              do not run by yourself\n"
    "  --seed N --fill PERCENT --mix TEXT,POINTER,RANDOM,ZERO   the content of RAM at the start\n"
    "  --load SHAPE[,key=value…]       idle uniform zipf sweep burst grow; rate= hot= write=8|4096 same=1\n"
    "                                  threads= on= off= (seconds) skew=\n"
    "  --cpus N --machine TYPE         as QMP shows them\n"
    "  --refuse|--hang|--die COMMAND[:NTH]   answer with an error, never, or end\n"
    "  --drain-ms N                    how long draining block I/O takes\n"
    "  --pause-ms N                    how long the guest runs on before a migration stops it\n"
    "  --device-bytes N                device state, half of it sent before the stop\n"
    "  --save-ms N                     how long xen-save-devices-state takes\n"
    "  --block-after COMMAND           from that command on something stands against a migration\n"
    "  --write-late N                  pages that a device writes while its state is saved, behind the stop\n"
    "  --rewrite-late N                the same, with what they hold\n"
    "  --fail-load                     loading the device state fails\n"
    "  --no-hash, --no-check           send no hash of RAM; do not look at the one that comes\n"
    "  --extra-object TYPE:ID, --extra-device ID:TYPE, --private-ram   things to refuse\n"
    "  --read-only-ram, --swap-ram FILE   RAM that it may only read: from the start, or once it was asked about it\n"
    "  --stats FILE                    one JSON line every 50 ms and at every start and stop\n"
    "Own QMP commands: stunt-stats, stunt-check (all stamps; the guest must be stopped).\n"
    "Ends with 3 when a page does not hold what was last written to it.\n";

enum option_code {
    OPT_QMP = 256,
    OPT_RAM,
    OPT_INCOMING,
    OPT_SEED,
    OPT_FILL,
    OPT_MIX,
    OPT_LOAD,
    OPT_CPUS,
    OPT_MACHINE,
    OPT_REFUSE,
    OPT_HANG,
    OPT_DIE,
    OPT_DRAIN,
    OPT_PAUSE,
    OPT_DEVICE,
    OPT_WRITE_LATE,
    OPT_REWRITE_LATE,
    OPT_FAIL_LOAD,
    OPT_OBJECT,
    OPT_PERIPHERAL,
    OPT_PRIVATE,
    OPT_NO_HASH,
    OPT_NO_CHECK,
    OPT_STATS,
    OPT_READ_ONLY,
    OPT_SWAP,
    OPT_SAVE_MS,
    OPT_BLOCK_AFTER,
    OPT_HELP,
};

static const struct option long_options[] = {
    { "qmp", required_argument, NULL, OPT_QMP },
    { "ram", required_argument, NULL, OPT_RAM },
    { "incoming", required_argument, NULL, OPT_INCOMING },
    { "seed", required_argument, NULL, OPT_SEED },
    { "fill", required_argument, NULL, OPT_FILL },
    { "mix", required_argument, NULL, OPT_MIX },
    { "load", required_argument, NULL, OPT_LOAD },
    { "cpus", required_argument, NULL, OPT_CPUS },
    { "machine", required_argument, NULL, OPT_MACHINE },
    { "refuse", required_argument, NULL, OPT_REFUSE },
    { "hang", required_argument, NULL, OPT_HANG },
    { "die", required_argument, NULL, OPT_DIE },
    { "drain-ms", required_argument, NULL, OPT_DRAIN },
    { "pause-ms", required_argument, NULL, OPT_PAUSE },
    { "device-bytes", required_argument, NULL, OPT_DEVICE },
    { "write-late", required_argument, NULL, OPT_WRITE_LATE },
    { "rewrite-late", required_argument, NULL, OPT_REWRITE_LATE },
    { "fail-load", no_argument, NULL, OPT_FAIL_LOAD },
    { "extra-object", required_argument, NULL, OPT_OBJECT },
    { "extra-device", required_argument, NULL, OPT_PERIPHERAL },
    { "private-ram", no_argument, NULL, OPT_PRIVATE },
    { "no-hash", no_argument, NULL, OPT_NO_HASH },
    { "no-check", no_argument, NULL, OPT_NO_CHECK },
    { "stats", required_argument, NULL, OPT_STATS },
    { "read-only-ram", no_argument, NULL, OPT_READ_ONLY },
    { "swap-ram", required_argument, NULL, OPT_SWAP },
    { "save-ms", required_argument, NULL, OPT_SAVE_MS },
    { "block-after", required_argument, NULL, OPT_BLOCK_AFTER },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};

/* Copies `length` bytes of text as a name of at most size - 1 bytes, not empty. */
static int copy_name(char *to, size_t size, const char *text, size_t length, struct error *err) {
    if (length == 0 || length >= size) {
        return error_set(err, ERROR_USAGE, "\"%.*s\" is no name", (int)length, text);
    }
    memcpy(to, text, length);
    to[length] = '\0';
    return 0;
}

static int parse_ram(struct options *options, const char *text, struct error *err) {
    if (options->memory.count == RAM_MAX) {
        return error_set(err, ERROR_USAGE, "more than %d --ram", RAM_MAX);
    }
    struct ram *ram = &options->memory.rams[options->memory.count++];
    const char *size = strstr(text, ",size="), *path = strstr(text, ",path=");
    if (size == NULL || path == NULL || path < size) {
        return error_set(err, ERROR_USAGE, "--ram wants ID,size=BYTES,path=FILE, not \"%s\"", text);
    }
    char number[32];
    if (copy_name(ram->id, sizeof(ram->id), text, (size_t)(size - text), err) < 0 ||
        copy_name(number, sizeof(number), size + 6, (size_t)(path - size - 6), err) < 0 ||
        copy_name(ram->path, sizeof(ram->path), path + 6, strlen(path + 6), err) < 0) {
        return -1;
    }
    return number_bytes(number, "--ram size", &ram->size, err);
}

static int parse_mix(struct content_mix *mix, const char *text, struct error *err) {
    unsigned percent[CONTENT_COUNT] = { 0 };
    char rest = '\0';
    int n = sscanf(text, "%u,%u,%u,%u%c", &percent[0], &percent[1], &percent[2], &percent[3], &rest);
    uint64_t sum = 0;
    for (int i = 0; i < CONTENT_COUNT; i++) {
        mix->percent[i] = percent[i];
        sum += percent[i];
    }
    if (n != CONTENT_COUNT || sum != 100) {
        return error_set(err, ERROR_USAGE, "--mix wants text,pointer,random,zero: four percentages that make 100");
    }
    return 0;
}

static int parse_mishap(struct options *options, enum mishap_kind kind, const char *text, struct error *err) {
    if (options->mishap_count == OPTIONS_MAX) {
        return error_set(err, ERROR_USAGE, "more than %d mishaps", OPTIONS_MAX);
    }
    struct mishap *mishap = &options->mishaps[options->mishap_count++];
    mishap->kind = kind;
    const char *colon = strchr(text, ':');
    size_t length = colon != NULL ? (size_t)(colon - text) : strlen(text);
    if (copy_name(mishap->command, sizeof(mishap->command), text, length, err) < 0) {
        return -1;
    }
    return colon == NULL ? 0 : number_count(colon + 1, "COMMAND:NTH", 1, UINT32_MAX, &mishap->nth, err);
}

/* "first:second". */
static int parse_extra(size_t *count, char *first, char *second, const char *text, struct error *err) {
    const char *colon = strchr(text, ':');
    if (*count == OPTIONS_MAX || colon == NULL) {
        return error_set(err, ERROR_USAGE, "\"%s\" has no colon, or is one too many", text);
    }
    ++*count;
    if (copy_name(first, sizeof(((struct extra *)0)->id), text, (size_t)(colon - text), err) < 0) {
        return -1;
    }
    return copy_name(second, sizeof(((struct extra *)0)->type), colon + 1, strlen(colon + 1), err);
}

/* The options that say what the guest is. */
static int take_guest_option(struct options *options, int code, const char *text, struct error *err) {
    switch (code) {
    case OPT_RAM:
        return parse_ram(options, text, err);
    case OPT_SEED:
        return number_count(text, "--seed", 0, UINT64_MAX, &options->load.seed, err);
    case OPT_FILL:
        return number_count(text, "--fill", 0, 100, &options->fill, err);
    case OPT_MIX:
        return parse_mix(&options->load.mix, text, err);
    case OPT_LOAD:
        return load_parse(&options->load, text, err);
    case OPT_CPUS:
        return number_count(text, "--cpus", 1, 1024, &options->cpus, err);
    case OPT_MACHINE:
        options->machine = text;
        return 0;
    case OPT_OBJECT: {
        struct extra *extra = &options->objects[options->object_count % OPTIONS_MAX];
        return parse_extra(&options->object_count, extra->type, extra->id, text, err);
    }
    case OPT_PERIPHERAL: {
        struct extra *extra = &options->devices[options->device_count % OPTIONS_MAX];
        return parse_extra(&options->device_count, extra->id, extra->type, text, err);
    }
    case OPT_PRIVATE:
        options->private_ram = true;
        return 0;
    default:
        return error_set(err, ERROR_USAGE, "unknown option; try --help");
    }
}

/* The options that say how it behaves. */
static int take_option(struct options *options, int code, const char *text, struct error *err) {
    switch (code) {
    case OPT_QMP:
        options->qmp = text;
        return 0;
    case OPT_INCOMING:
        options->incoming = true;
        return strcmp(text, "defer") == 0 ? 0 : error_set(err, ERROR_USAGE, "only --incoming defer");
    case 'S':
        options->paused = true;
        return 0;
    case OPT_REFUSE:
        return parse_mishap(options, MISHAP_REFUSE, text, err);
    case OPT_HANG:
        return parse_mishap(options, MISHAP_HANG, text, err);
    case OPT_DIE:
        return parse_mishap(options, MISHAP_DIE, text, err);
    case OPT_DRAIN:
        return number_count(text, "--drain-ms", 0, 3600000, &options->drain_ms, err);
    case OPT_PAUSE:
        return number_count(text, "--pause-ms", 0, 3600000, &options->pause_ms, err);
    case OPT_DEVICE:
        return number_bytes(text, "--device-bytes", &options->device_bytes, err);
    case OPT_WRITE_LATE:
        return number_count(text, "--write-late", 0, 1 << 20, &options->write_late, err);
    case OPT_REWRITE_LATE:
        return number_count(text, "--rewrite-late", 0, 1 << 20, &options->rewrite_late, err);
    case OPT_FAIL_LOAD:
        options->fail_load = true;
        return 0;
    case OPT_NO_HASH:
        options->no_hash = true;
        return 0;
    case OPT_NO_CHECK:
        options->no_check = true;
        return 0;
    case OPT_STATS:
        options->stats = text;
        return 0;
    case OPT_READ_ONLY:
        options->read_only = true;
        return 0;
    case OPT_SWAP:
        options->swap = text;
        return 0;
    case OPT_SAVE_MS:
        return number_count(text, "--save-ms", 0, 3600000, &options->save_ms, err);
    case OPT_BLOCK_AFTER:
        options->block_after = text;
        return 0;
    default:
        return take_guest_option(options, code, text, err);
    }
}

static int check_whole(struct options *options, struct error *err) {
    if (options->qmp == NULL || options->memory.count == 0) {
        return error_set(err, ERROR_USAGE, "--qmp and at least one --ram are needed");
    }
    if (options->cpus == 0) {
        options->cpus = options->load.threads != 0 ? options->load.threads : 1;
    }
    if (options->load.threads == 0) {
        options->load.threads = options->cpus;
    }
    if (options->load.threads > options->cpus) {
        return error_set(err, ERROR_USAGE, "more threads (%llu) than --cpus (%llu)",
                         (unsigned long long)options->load.threads, (unsigned long long)options->cpus);
    }
    return 0;
}

int options_parse(struct options *options, int argc, char **argv, struct error *err) {
    *options = (struct options){
        .machine = "pc-q35-7.2-machine",
        .device_bytes = 512 << 10,
        .load = { .shape = LOAD_IDLE,
                  .write = 8,
                  .on_ns = 2 * CLOCK_S,
                  .off_ns = 5 * CLOCK_S,
                  .skew = 4,
                  .mix = { .percent = { 50, 30, 5, 15 } } },
    };
    int code;
    opterr = 0;
    /* "long_only" is what makes -incoming an option, as QEMU spells it. */
    while ((code = getopt_long_only(argc, argv, "S", long_options, NULL)) != -1) {
        if (code == OPT_HELP) {
            fputs(usage, stdout);
            return 1;
        }
        if (code == '?') {
            return error_set(err, ERROR_USAGE, "\"%s\": unknown, or without its value; try --help", argv[optind - 1]);
        }
        if (take_option(options, code, optarg, err) < 0) {
            return -1;
        }
    }
    if (optind < argc) {
        return error_set(err, ERROR_USAGE, "what is \"%s\"?", argv[optind]);
    }
    return check_whole(options, err);
}
