/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/probe.h"

#include "cmd/cmd.h"
#include "track/kernel.h"

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct feature {
    const char *name; /* also in JSON: part of the interface */
    bool there;
    const char *cost; /* what its lack means */
    const char *cure; /* how to get it */
};

#define FEATURES 10
#define HUGEPAGE_SIZES 2

struct hugepages {
    unsigned kib;
    bool supported;
    uint64_t total, free;
};

static void list_features(const struct kernel_features *k, struct feature list[FEATURES]) {
    const struct feature all[FEATURES] = {
        { "ptrace", k->ptrace, "godwit cannot attach to any QEMU",
          "allow ptrace: seccomp or a container profile forbids it, or kernel.yama.ptrace_scope is 3" },
        { "ptrace-any", k->ptrace_any, "godwit can only attach to a QEMU of the same user",
          "run as root (CAP_SYS_PTRACE)" },
        { "pidfd-getfd", k->pidfd_getfd, "godwit cannot attach to any QEMU", "Linux 5.6" },
        { "map-files", k->map_files, "RAM files in other mount namespaces, or unlinked, cannot be opened",
          "run as root (CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE)" },
        { "userfaultfd", k->userfaultfd, "writes of the guest cannot be tracked", "a kernel with CONFIG_USERFAULTFD" },
        { "wp-async", k->wp_async, "the sync tracker is used: each first write to a page waits for godwit",
          "Linux 6.7" },
        { "pagemap-scan", k->pagemap_scan, "the sync tracker is used: each first write to a page waits for godwit",
          "Linux 6.7" },
        { "wp-shmem", k->wp_shmem, "there is no sync tracker to fall back to where RAM is a shared file",
          "Linux 5.19" },
        { "wp-anon", k->wp_anon, "there is no sync tracker to fall back to where RAM is private to QEMU",
          "Linux 5.13" },
        { "unprivileged-userfaultfd", k->unprivileged_uffd,
          "the sync tracker and postcopy cannot serve a QEMU that runs without CAP_SYS_PTRACE",
          "sysctl vm.unprivileged_userfaultfd=1" },
    };
    for (size_t i = 0; i < FEATURES; i++) {
        list[i] = all[i];
    }
}

static uint64_t read_number(unsigned kib, const char *name, bool *there) {
    char path[128];
    unsigned long long number = 0;
    snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%ukB/%s", kib, name);
    FILE *file = fopen(path, "re");
    *there = file != NULL && fscanf(file, "%llu", &number) == 1;
    if (file != NULL) {
        fclose(file);
    }
    return number;
}

static void read_hugepages(struct hugepages list[HUGEPAGE_SIZES]) {
    static const unsigned sizes[HUGEPAGE_SIZES] = { 2048, 1048576 };
    for (size_t i = 0; i < HUGEPAGE_SIZES; i++) {
        bool total, unused;
        list[i].kib = sizes[i];
        list[i].total = read_number(sizes[i], "nr_hugepages", &total);
        list[i].free = read_number(sizes[i], "free_hugepages", &unused);
        list[i].supported = total && unused;
    }
}

static const char *tracker_name(enum tracker_kind kind) {
    return kind == TRACKER_AUTO ? "none" : tracker_kind_name(kind);
}

static void print_text(const struct feature features[FEATURES], const struct hugepages huge[HUGEPAGE_SIZES],
                       enum tracker_kind kind) {
    for (size_t i = 0; i < FEATURES; i++) {
        const struct feature *f = &features[i];
        if (f->there) {
            printf("%-26s yes\n", f->name);
        } else {
            printf("%-26s no   %s. To get it: %s\n", f->name, f->cost, f->cure);
        }
    }
    for (size_t i = 0; i < HUGEPAGE_SIZES; i++) {
        if (huge[i].supported) {
            printf("hugepages-%-16u %llu free of %llu\n", huge[i].kib, (unsigned long long)huge[i].free,
                   (unsigned long long)huge[i].total);
        }
    }
    printf("%-26s %s\n", "tracker", tracker_name(kind));
    printf("%-26s %s\n", "migration", kind != TRACKER_AUTO ? "possible" : "not possible");
}

static int print_json(const struct feature features[FEATURES], const struct hugepages huge[HUGEPAGE_SIZES],
                      enum tracker_kind kind) {
    json_t *list = json_object(), *pages = json_object();
    for (size_t i = 0; i < FEATURES; i++) {
        const struct feature *f = &features[i];
        json_t *item = f->there ? json_pack("{s:b}", "available", 1)
                                : json_pack("{s:b, s:s, s:s}", "available", 0, "cost", f->cost, "cure", f->cure);
        json_object_set_new(list, f->name, item);
    }
    for (size_t i = 0; i < HUGEPAGE_SIZES; i++) {
        char name[24];
        snprintf(name, sizeof(name), "%u", huge[i].kib);
        if (huge[i].supported) {
            json_object_set_new(
                pages, name,
                json_pack("{s:I, s:I}", "free", (json_int_t)huge[i].free, "total", (json_int_t)huge[i].total));
        }
    }
    json_t *root = json_pack("{s:o, s:o, s:s, s:b}", "features", list, "hugepages", pages, "tracker",
                             tracker_name(kind), "possible", kind != TRACKER_AUTO);
    int failed = root == NULL || json_dumpf(root, stdout, JSON_COMPACT) < 0 || putchar('\n') == EOF;
    json_decref(root);
    return failed ? -1 : 0;
}

static void print_usage(FILE *to) {
    fputs("usage: godwit probe [--json]\n"
          "\n"
          "Says what this host offers to a migration, and for what is missing what that costs and how to get it.\n"
          "\n"
          "  --json   one JSON object: features {NAME: {available, cost, cure}}, hugepages {KIB: {free, total}},\n"
          "           tracker (async, sync, none), possible\n"
          "  --help   this text\n"
          "\n"
          "Exit status: 0 a migration from this host is possible, 1 it is not, 2 wrong use.\n",
          to);
}

int cmd_probe(int argc, char **argv) {
    static const struct option options[] = {
        { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    bool json = false;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'j':
            json = true;
            break;
        case 'h':
            print_usage(stdout);
            return EXIT_DONE;
        default:
            print_usage(stderr);
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "godwit probe: unexpected argument \"%s\"\n", argv[optind]);
        print_usage(stderr);
        return EXIT_USAGE;
    }
    struct kernel_features kernel;
    struct feature features[FEATURES];
    struct hugepages huge[HUGEPAGE_SIZES];
    kernel_probe(&kernel);
    list_features(&kernel, features);
    read_hugepages(huge);
    enum tracker_kind kind = kernel_tracker(&kernel);
    if (json) {
        if (print_json(features, huge, kind) < 0) {
            return EXIT_FAILED;
        }
    } else {
        print_text(features, huge, kind);
    }
    return kind != TRACKER_AUTO ? EXIT_DONE : EXIT_FAILED;
}
