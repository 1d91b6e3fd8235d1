/* SPDX-License-Identifier: Apache-2.0 */
/* The stunt's command line. Texts point into argv. */
#ifndef STUNT_OPTIONS_H
#define STUNT_OPTIONS_H

#include "load.h"
#include "ram.h"

#define OPTIONS_MAX 16

enum mishap_kind { MISHAP_REFUSE, MISHAP_HANG, MISHAP_DIE };

/* What goes wrong with a QMP command: the nth time that it comes, or always for 0. */
struct mishap {
    enum mishap_kind kind;
    char command[64];
    uint64_t nth;
    uint64_t seen;
};

/* A thing that only has a name and a type. */
struct extra {
    char id[64], type[64];
};

struct options {
    const char *qmp;
    struct memory memory; /* id, path and size of every block are set */
    bool incoming, paused;
    uint64_t fill; /* percent */
    struct load load;
    uint64_t cpus;
    const char *machine;
    struct mishap mishaps[OPTIONS_MAX];
    size_t mishap_count;
    struct extra objects[OPTIONS_MAX], devices[OPTIONS_MAX];
    size_t object_count, device_count;
    uint64_t drain_ms, pause_ms;
    uint64_t write_late, rewrite_late; /* pages */
    uint64_t device_bytes;
    bool fail_load, private_ram, no_hash, no_check;
    const char *stats;       /* NULL for none */
    const char *block_after; /* a command; from then on something blocks a migration. NULL: nothing ever does */
    uint64_t save_ms;        /* how long xen-save-devices-state takes */
    const char *swap;        /* a file that takes the place of the first block, read-only, once that was asked about */
    bool read_only;          /* RAM is mapped for reading only */
};

/* 0, 1 when only the usage was wanted (and printed), -1. */
int options_parse(struct options *options, int argc, char **argv, struct error *err);

#endif
