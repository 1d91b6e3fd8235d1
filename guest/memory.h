/* SPDX-License-Identifier: Apache-2.0 */
/* The memory load: fills, dirties and checks pages. Each thread has pages of its own, so nothing is locked. */
#ifndef GUEST_MEMORY_H
#define GUEST_MEMORY_H

#include "settings.h"

/* Returns when all of the memory is filled; the threads go on for good. -1: no memory or no thread. */
int memory_start(const struct settings *settings);

#endif
