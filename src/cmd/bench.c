/* SPDX-License-Identifier: Apache-2.0 */
/* godwit bench: what this host does with this memory, before anything is moved. */
#include "base/cleanup.h"
#include "base/log.h"
#include "cmd/bench_codec.h"
#include "cmd/bench_sample.h"
#include "cmd/cmd.h"
#include "params/unit.h"

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGES_PER_BATCH_MAX 1024
#define SIZE_MAX_GIB 64

struct bench_options {
    const char *path, *guest; /* one of them */
    unsigned batch_pages;
    uint64_t size;
    bool json;
};

static void help(FILE *out) {
    fputs("Usage: godwit bench codec FILE [OPTION]...\n"
          "       godwit bench codec --guest SOCKET [OPTION]...\n"
          "\n"
          "What each codec would do with this memory on this host: the ratio, the speed of one core, and the links\n"
          "on which it pays. FILE has the content of a guest's memory, or of any other.\n"
          "\n"
          "  --guest SOCKET       the memory of a running guest, by the QMP monitor of its QEMU; it is only read\n"
          "  --size BYTES         look at no more than that, spread over the memory; 64K, 1G, 500MB (default: 256M)\n"
          "  --pages-per-batch N  pages of 4 KiB that are compressed as one, 1..1024 (default: 128)\n"
          "  --json               print one JSON object: memory, sampled and zero (bytes), pages-per-batch,\n"
          "                       rows [{codec, level, ratio, compress and decompress (bytes a second),\n"
          "                       beats-raw-below and best-below (bits a second), in and out (bytes)}]\n"
          "  -h, --help           this text\n"
          "\n"
          "It keeps one core busy for up to half a minute. Exit status: 0 done; 1 failed; 2 wrong use.\n",
          out);
}

static int take_option(struct bench_options *o, int option, struct error *err) {
    int64_t number;
    switch (option) {
    case 'g':
        o->guest = optarg;
        return 0;
    case 's':
        if (unit_parse(UNIT_BYTES, optarg, &number) != UNIT_READ || number < BENCH_PAGE ||
            number > (int64_t)SIZE_MAX_GIB << 30) {
            return error_set(err, ERROR_USAGE, "--size %s: not a size from 4K to %dG; for example %s", optarg,
                             SIZE_MAX_GIB, unit_examples(UNIT_BYTES));
        }
        o->size = (uint64_t)number;
        return 0;
    case 'p':
        if (unit_parse(UNIT_PAGES, optarg, &number) != UNIT_READ || number < 1 || number > PAGES_PER_BATCH_MAX) {
            return error_set(err, ERROR_USAGE, "--pages-per-batch %s: not in 1..%d pages; for example 128", optarg,
                             PAGES_PER_BATCH_MAX);
        }
        o->batch_pages = (unsigned)number;
        return 0;
    case 'j':
        o->json = true;
        return 0;
    default:
        return error_set(err, ERROR_USAGE, "see 'godwit bench --help'");
    }
}

/* What follows the options: "codec", and FILE unless there is a guest. */
static int take_words(struct bench_options *o, int count, char **words, struct error *err) {
    if (count < 1) {
        return error_set(err, ERROR_USAGE, "what is to be tried? 'godwit bench codec' (godwit bench --help)");
    }
    if (strcmp(words[0], "codec") != 0) {
        return error_set(err, ERROR_USAGE, "there is no bench of '%s', only of 'codec' (godwit bench --help)",
                         words[0]);
    }
    if (count > 2 || (count == 2 && o->guest != NULL)) {
        return error_set(err, ERROR_USAGE, "what is '%s' for? See 'godwit bench --help'", words[count - 1]);
    }
    if (count == 1 && o->guest == NULL) {
        return error_set(err, ERROR_USAGE, "whose memory? A FILE, or --guest SOCKET");
    }
    o->path = count == 2 ? words[1] : NULL;
    return 0;
}

static double mib(uint64_t bytes) {
    return (double)bytes / (1 << 20);
}

/* A link's rate in Mbit/s. */
static const char *link_text(double bits, char text[16]) {
    snprintf(text, 16, bits <= 0 ? "never" : bits < 10e6 ? "%.1f" : "%.0f", bits / 1e6);
    return text;
}

static void print_text(const struct bench_options *o, const struct bench_sample *s, const struct bench_row *rows,
                       size_t count) {
    char raw[16], best[16];
    printf("memory %.0f MiB, looked at %.0f MiB; %.0f %% of that is zero pages, the rest is in batches of %u pages\n",
           mib(s->memory), mib(s->pages * BENCH_PAGE), 100.0 * (double)s->zero / (double)s->pages, o->batch_pages);
    if (bench_sample_used(s) == 0) {
        puts("there is nothing to compress: zero pages are sent as one bit each");
        return;
    }
    printf("%-8s %5s %7s %9s %11s %15s %11s %9s\n", "codec", "level", "ratio", "compress", "decompress",
           "beats raw below", "best below", "tried");
    printf("%-8s %5s %7s %9s %11s %15s %11s %9s\n", "", "", "", "MB/s", "MB/s", "Mbit/s", "Mbit/s", "MiB");
    for (size_t i = 0; i < count; i++) {
        const struct bench_row *r = &rows[i];
        printf("%-8s %5d %7.2f %9.0f %11.0f %15s %11s %9.0f\n", r->codec->name, r->level,
               (double)r->in / (double)r->out, r->encode / 1e6, r->decode / 1e6, link_text(r->beats_raw_below, raw),
               link_text(r->best_below, best), mib(r->in));
    }
}

static json_t *bits_or_null(double bits) {
    return bits > 0 ? json_integer((json_int_t)bits) : json_null();
}

static void print_json(const struct bench_options *o, const struct bench_sample *s, const struct bench_row *rows,
                       size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct bench_row *r = &rows[i];
        json_array_append_new(
            list, json_pack("{s:s, s:i, s:f, s:I, s:I, s:o, s:o, s:I, s:I}", "codec", r->codec->name, "level", r->level,
                            "ratio", (double)r->in / (double)r->out, "compress", (json_int_t)r->encode, "decompress",
                            (json_int_t)r->decode, "beats-raw-below", bits_or_null(r->beats_raw_below), "best-below",
                            bits_or_null(r->best_below), "in", (json_int_t)r->in, "out", (json_int_t)r->out));
    }
    uint64_t sampled = s->pages * BENCH_PAGE, zero = s->zero * BENCH_PAGE;
    json_t *root =
        json_pack("{s:I, s:I, s:I, s:i, s:o}", "memory", (json_int_t)s->memory, "sampled", (json_int_t)sampled, "zero",
                  (json_int_t)zero, "pages-per-batch", (int)o->batch_pages, "rows", list);
    json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(root);
}

static int measure(const struct bench_options *o, const struct bench_sample *s, struct bench_row *rows, size_t count,
                   struct error *err) {
    bool terminal = isatty(STDERR_FILENO);
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        char text[64];
        snprintf(text, sizeof(text), "%zu of %zu: %s %d", i + 1, count, rows[i].codec->name, rows[i].level);
        if (terminal) {
            log_progress(text);
        }
        rc = bench_row_measure(&rows[i], s, o->batch_pages, err);
    }
    if (terminal) {
        log_progress("");
    }
    if (rc == 0) {
        bench_rows_compare(rows, count);
    }
    return rc;
}

static int bench(const struct bench_options *o, struct error *err) {
    struct bench_sample s = { 0 };
    size_t count;
    CLEANUP_FREE struct bench_row *rows = bench_rows_new(&count);
    int rc = rows == NULL       ? error_set(err, ERROR_SYSTEM, "no memory")
             : o->guest != NULL ? bench_sample_guest(&s, o->guest, o->size, o->batch_pages, err)
                                : bench_sample_file(&s, o->path, o->size, o->batch_pages, err);
    if (rc == 0 && bench_sample_used(&s) == 0) {
        count = 0;
    }
    if (rc == 0 && count > 0) {
        rc = measure(o, &s, rows, count, err);
    }
    if (rc == 0) {
        (o->json ? print_json : print_text)(o, &s, rows, count);
        rc = fflush(stdout) == 0 ? 0 : error_errno(err, ERROR_SYSTEM, "cannot write the result");
    }
    bench_sample_free(&s);
    return rc;
}

int cmd_bench(int argc, char **argv) {
    static const struct option names[] = { { "guest", required_argument, NULL, 'g' },
                                           { "size", required_argument, NULL, 's' },
                                           { "pages-per-batch", required_argument, NULL, 'p' },
                                           { "json", no_argument, NULL, 'j' },
                                           { "help", no_argument, NULL, 'h' },
                                           { 0 } };
    struct bench_options o = { .batch_pages = 128, .size = (uint64_t)256 << 20 };
    struct error err = { 0 };
    int option;
    log_setup("godwit bench", LOG_ERROR); /* what may stand in the way of a migration does not matter here */
    while ((option = getopt_long(argc, argv, "h", names, NULL)) != -1) {
        if (option == 'h') {
            help(stdout);
            return EXIT_DONE;
        }
        if (take_option(&o, option, &err) < 0) {
            log_error("%s", err.desc);
            return EXIT_USAGE;
        }
    }
    if (take_words(&o, argc - optind, argv + optind, &err) < 0) {
        log_error("%s", err.desc);
        return EXIT_USAGE;
    }
    if (bench(&o, &err) < 0) {
        log_error("%s", err.desc);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}
