/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/pass.h"

#include "base/cleanup.h"

#include <sys/eventfd.h>
#include <unistd.h>

int pass_init(struct pass *p, struct ram *ram, unsigned threads, struct error *err) {
    *p = (struct pass){ .ram = ram, .threads = threads, .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    return p->event_fd >= 0 ? 0 : error_errno(err, ERROR_SYSTEM, "eventfd");
}

void pass_destroy(struct pass *p) {
    close(p->event_fd);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
}

void pass_start(struct pass *p) {
    LOCK_GUARD(&p->lock);
    atomic_store(&p->cursor, 0);
    p->left = 0;
    p->number++;
    pthread_cond_broadcast(&p->changed);
}

int pass_poll(struct pass *p, struct error *err) {
    LOCK_GUARD(&p->lock);
    eventfd_t drained;
    eventfd_read(p->event_fd, &drained);
    if (error_is_set(&p->failure)) {
        return error_set(err, p->failure.class, "%s", p->failure.desc);
    }
    return p->left == p->threads;
}

void pass_end_threads(struct pass *p) {
    LOCK_GUARD(&p->lock);
    p->ending = true;
    pthread_cond_broadcast(&p->changed);
}

bool pass_wait(struct pass *p, uint32_t last, uint32_t *number) {
    LOCK_GUARD(&p->lock);
    while (p->number == last && !p->ending) {
        pthread_cond_wait(&p->changed, &p->lock);
    }
    *number = p->number;
    return !p->ending;
}

static uint64_t chunks_of(const struct ram_block *b) {
    return (b->pages + PASS_CHUNK_PAGES - 1) / PASS_CHUNK_PAGES;
}

bool pass_next_chunk(struct pass *p, struct pass_chunk *chunk) {
    uint64_t n = atomic_fetch_add_explicit(&p->cursor, 1, memory_order_relaxed);
    for (uint16_t i = 0; i < p->ram->count; i++) {
        struct ram_block *b = &p->ram->blocks[i];
        if (n < chunks_of(b)) {
            uint64_t first = n * PASS_CHUNK_PAGES, end = first + PASS_CHUNK_PAGES;
            *chunk = (struct pass_chunk){ b, i, first, end < b->pages ? end : b->pages };
            return true;
        }
        n -= chunks_of(b);
    }
    return false;
}

void pass_leave(struct pass *p) {
    LOCK_GUARD(&p->lock);
    if (++p->left == p->threads) {
        eventfd_write(p->event_fd, 1);
    }
}

void pass_fail(struct pass *p, const struct error *cause) {
    LOCK_GUARD(&p->lock);
    if (!error_is_set(&p->failure)) {
        p->failure = *cause;
    }
    eventfd_write(p->event_fd, 1);
}
