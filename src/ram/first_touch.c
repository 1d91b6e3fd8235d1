/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/first_touch.h"

#include "base/bits.h"

#include <stdlib.h>

/* From that of the memory's first byte on. */
static uint64_t stretch(const struct first_touch *t, uint64_t at) {
    return (t->address + at) / FIRST_TOUCH_SIZE - t->address / FIRST_TOUCH_SIZE;
}

static pthread_mutex_t *lock_of(struct first_touch *t, uint64_t n) {
    return &t->lock[n % FIRST_TOUCH_LOCKS];
}

int first_touch_init(struct first_touch *t, uint64_t address, uint64_t size, struct error *err) {
    t->address = address;
    t->touched = calloc(bits_words(size / FIRST_TOUCH_SIZE + 2), sizeof(t->touched[0]));
    if (t->touched == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the map of huge pages");
    }
    for (unsigned i = 0; i < FIRST_TOUCH_LOCKS; i++) {
        pthread_mutex_init(&t->lock[i], NULL);
    }
    return 0;
}

void first_touch_destroy(struct first_touch *t) {
    for (unsigned i = 0; t->touched != NULL && i < FIRST_TOUCH_LOCKS; i++) {
        pthread_mutex_destroy(&t->lock[i]);
    }
    free(t->touched);
    t->touched = NULL;
}

static bool is_touched(const struct first_touch *t, uint64_t n) {
    return atomic_load_explicit(&t->touched[n / 64], memory_order_acquire) >> (n % 64) & 1;
}

bool first_touch_begin(struct first_touch *t, uint64_t at) {
    uint64_t n = stretch(t, at);
    if (is_touched(t, n)) {
        return false;
    }
    pthread_mutex_lock(lock_of(t, n));
    if (is_touched(t, n)) {
        pthread_mutex_unlock(lock_of(t, n));
        return false;
    }
    return true;
}

void first_touch_end(struct first_touch *t, uint64_t at) {
    uint64_t n = stretch(t, at);
    atomic_fetch_or_explicit(&t->touched[n / 64], UINT64_C(1) << (n % 64), memory_order_release);
    pthread_mutex_unlock(lock_of(t, n));
}

uint64_t first_touch_next(const struct first_touch *t, uint64_t at) {
    return ((t->address + at) / FIRST_TOUCH_SIZE + 1) * FIRST_TOUCH_SIZE - t->address;
}
