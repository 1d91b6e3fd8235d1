/* SPDX-License-Identifier: Apache-2.0 */
/* Things that end with their scope. `take_fd(&fd)` and `take_ptr(&p)` hand the thing on and leave nothing behind. */
#ifndef GODWIT_BASE_CLEANUP_H
#define GODWIT_BASE_CLEANUP_H

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_ptr(void *p) {
    free(*(void **)p);
}

static inline void cleanup_close_fd(const int *fd) {
    if (*fd >= 0) {
        close(*fd);
    }
}

static inline void cleanup_unlock_mutex(pthread_mutex_t **lock) {
    pthread_mutex_unlock(*lock);
}

#define CLEANUP_FREE __attribute__((cleanup(cleanup_free_ptr)))
#define CLEANUP_CLOSE __attribute__((cleanup(cleanup_close_fd)))

/* Holds `lock` until the end of the enclosing scope. */
#define LOCK_GUARD(lock)                                                                                               \
    pthread_mutex_t *lock_guard_ __attribute__((cleanup(cleanup_unlock_mutex), unused)) = (lock);                      \
    pthread_mutex_lock(lock_guard_)

static inline int take_fd(int *fd) {
    int taken = *fd;
    *fd = -1;
    return taken;
}

#define take_ptr(p)                                                                                                    \
    __extension__({                                                                                                    \
        __typeof__(*(p)) taken_ = *(p);                                                                                \
        *(p) = NULL;                                                                                                   \
        taken_;                                                                                                        \
    })

#endif
