/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread at a time is the first to write where a huge page may come.
 *
 * The kernel makes an untouched huge page zero before it looks whether another thread has put one there meanwhile; what
 * comes too late is thrown away. Threads that place neighbouring batches meet in the same huge page, so most of them
 * would be cleared two and three times: 2 MiB each, more than the bytes that are written. So the first writes one small
 * page there while the others wait, and they all go on once the huge page is in place.
 */
#ifndef GODWIT_RAM_FIRST_TOUCH_H
#define GODWIT_RAM_FIRST_TOUCH_H

#include "base/error.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FIRST_TOUCH_SIZE (UINT64_C(2) << 20) /* bytes of what is touched as one: a huge page of most hosts */
#define FIRST_TOUCH_LOCKS 16u

struct first_touch {
    uint64_t address;          /* of the memory's first byte: huge pages lie at multiples of their size */
    _Atomic uint64_t *touched; /* bit a stretch of FIRST_TOUCH_SIZE */
    pthread_mutex_t lock[FIRST_TOUCH_LOCKS];
};

int first_touch_init(struct first_touch *t, uint64_t address, uint64_t size, struct error *err);
/* Of zeroed memory too. */
void first_touch_destroy(struct first_touch *t);
/* True when nobody has touched the stretch that has byte `at` of the memory: the caller writes there and calls
 * first_touch_end(); whoever else begins there meanwhile waits for it. */
bool first_touch_begin(struct first_touch *t, uint64_t at);
void first_touch_end(struct first_touch *t, uint64_t at);
/* Where the stretch behind that of `at` begins. */
uint64_t first_touch_next(const struct first_touch *t, uint64_t at);

#endif
