/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>

#define PERIOD (50 * CLOCK_MS)

/* Under the lock. One write() a line, so that a reader never sees half of one. */
static void write_line(struct stats *stats) {
    fprintf(stats->file, "{\"wall\": %lld, \"stamps\": %llu, \"running\": %s}\n", (long long)clock_wall(),
            (unsigned long long)dirty_stamps(stats->dirty), dirty_running(stats->dirty) ? "true" : "false");
    fflush(stats->file);
}

static void *stats_main(void *argument) {
    struct stats *stats = argument;
    LOCK_GUARD(&stats->lock);
    int64_t next = clock_now();
    while (!stats->quit) {
        write_line(stats);
        next += PERIOD;
        struct timespec deadline = { .tv_sec = next / CLOCK_S, .tv_nsec = next % CLOCK_S };
        int result = 0;
        while (!stats->quit && result == 0) {
            result = pthread_cond_timedwait(&stats->ended, &stats->lock, &deadline);
        }
    }
    return NULL;
}

int stats_open(struct stats *stats, const char *path, struct dirty *dirty, struct error *err) {
    *stats = (struct stats){ .dirty = dirty };
    if (path == NULL) {
        return 0;
    }
    FILE *file = fopen(path, "ae");
    if (file == NULL) {
        return error_errno(err, ERROR_SYSTEM, "%s", path);
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&stats->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&stats->lock, NULL);
    stats->file = file;
    errno = pthread_create(&stats->thread, NULL, stats_main, stats);
    if (errno != 0) {
        fclose(file);
        stats->file = NULL;
        return error_errno(err, ERROR_SYSTEM, "the statistics thread");
    }
    return 0;
}

void stats_write(struct stats *stats) {
    if (stats->file != NULL) {
        LOCK_GUARD(&stats->lock);
        write_line(stats);
    }
}

void stats_close(struct stats *stats) {
    if (stats->file == NULL) {
        return;
    }
    pthread_mutex_lock(&stats->lock);
    stats->quit = true;
    pthread_cond_signal(&stats->ended);
    pthread_mutex_unlock(&stats->lock);
    pthread_join(stats->thread, NULL);
    fclose(stats->file);
    stats->file = NULL;
}
