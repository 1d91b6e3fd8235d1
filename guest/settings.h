/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest's kernel command line asks of the load: words of the form gw.NAME=VALUE. */
#ifndef GUEST_SETTINGS_H
#define GUEST_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

struct settings {
    uint64_t mem;       /* gw.mem: MiB that are filled */
    uint64_t rate;      /* gw.rate: KiB/s that are written, all threads together */
    uint64_t sweep;     /* gw.sweep: KiB/s that are read and checked besides */
    uint64_t threads;   /* gw.threads: how many share the memory among them */
    uint64_t mix[4];    /* gw.mix: percent of text, pointer, random and zero pages; 100 together */
    uint64_t same;      /* gw.same: percent of the writes that write what was there */
    uint64_t delta;     /* gw.delta: percent of the writes that change few bytes of a page */
    uint64_t hot;       /* gw.hot: percent of the pages that get 90 % of the writes; 0: all alike */
    uint64_t seed;      /* gw.seed */
    uint64_t tick;      /* gw.tick: ms between two lines on the console */
    uint64_t disk;      /* gw.disk: 1 writes /dev/vda and reads it back */
    uint64_t disk_rate; /* gw.diskrate: KiB/s that are written to it; 0: as fast as it goes */
    uint64_t disk_read; /* gw.diskread: threads that read it all the time */
    uint64_t video;     /* gw.video: KiB/s that are written to video RAM; 0: none */
};

/* Fills in the defaults, then what `path` (/proc/cmdline) says. Unknown gw.* words and bad values are told on stderr
 * and make it return -1: a test must not run with another load than it thinks. */
int settings_read(struct settings *settings, const char *path);

#endif
