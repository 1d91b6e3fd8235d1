/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest got done, for tests and drawings: a file with a JSON line every 50 ms and one at every start and stop,
 * {"wall": nanoseconds since the epoch, "stamps": pages written in all, "running": bool}.
 */
#ifndef STUNT_STATS_H
#define STUNT_STATS_H

#include "dirty.h"

#include <stdio.h>

struct stats {
    struct dirty *dirty;
    FILE *file; /* NULL when nobody asked */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool quit;
};

/* `path` may be NULL; then the rest does nothing. */
int stats_open(struct stats *stats, const char *path, struct dirty *dirty, struct error *err);
void stats_write(struct stats *stats);
void stats_close(struct stats *stats);

#endif
