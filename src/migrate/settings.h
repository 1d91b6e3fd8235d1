/* SPDX-License-Identifier: Apache-2.0 */
/* The parameters of a running migration at the source, and what follows them at once. */
#ifndef GODWIT_MIGRATE_SETTINGS_H
#define GODWIT_MIGRATE_SETTINGS_H

#include "base/limit.h"
#include "params/params.h"
#include "ram/choice.h"

#include <pthread.h>

struct settings {
    pthread_mutex_t lock; /* owns params: the control thread changes the live ones */
    struct params params;
    struct params ceiling;                   /* limits that the destination's user has set */
    struct limit limit;                      /* follows max-bandwidth */
    struct compression_settings compression; /* follows compression, lz4-acceleration */
};

#endif
