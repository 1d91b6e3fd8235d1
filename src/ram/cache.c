/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/cache.h"

#include "base/cleanup.h"
#include "codec/delta.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LOCKS 64

struct slot {
    uint64_t key;  /* 0: free */
    uint32_t used; /* the last pass in which it was of use */
};

struct cache {
    size_t sets;
    struct slot *slots;
    uint8_t *pages;
    _Atomic size_t held, most;    /* pages: in it; none gets in while there are so many */
    pthread_mutex_t locks[LOCKS]; /* set i belongs to lock i % LOCKS */
};

static uint64_t key_of(uint16_t block, uint64_t page) {
    return (uint64_t)(block + 1u) << 48 | page;
}

/* Fibonacci hashing: neighbours go to sets that are far apart. The hash is taken for a fraction of all sets. */
static size_t set_of(const struct cache *c, uint64_t key) {
    uint64_t hash = key * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(((unsigned __int128)hash * c->sets) >> 64);
}

struct cache *cache_open(uint64_t bytes) {
    size_t sets = bytes / CACHE_SET_BYTES;
    struct cache *c = sets > 0 ? calloc(1, sizeof(*c)) : NULL;
    if (c == NULL) {
        return NULL;
    }
    c->sets = sets;
    atomic_init(&c->most, SIZE_MAX);
    c->slots = calloc(sets * CACHE_WAYS, sizeof(c->slots[0]));
    void *pages =
        mmap(NULL, sets * CACHE_SET_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    c->pages = pages != MAP_FAILED ? pages : NULL;
    for (size_t i = 0; i < LOCKS; i++) {
        pthread_mutex_init(&c->locks[i], NULL);
    }
    if (c->slots == NULL || c->pages == NULL) {
        cache_close(c);
        return NULL;
    }
    return c;
}

void cache_close(struct cache *c) {
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < LOCKS; i++) {
        pthread_mutex_destroy(&c->locks[i]);
    }
    if (c->pages != NULL) {
        munmap(c->pages, cache_size(c));
    }
    free(c->slots);
    free(c);
}

uint64_t cache_held(const struct cache *c) {
    return c != NULL ? (uint64_t)atomic_load(&c->held) * RAM_PAGE_SIZE : 0;
}

void cache_limit(struct cache *c, uint64_t bytes) {
    atomic_store(&c->most, bytes >= cache_size(c) ? SIZE_MAX : (size_t)(bytes / RAM_PAGE_SIZE));
}

uint64_t cache_size(const struct cache *c) {
    return c != NULL ? (uint64_t)c->sets * CACHE_SET_BYTES : 0;
}

static struct slot *find(struct cache *c, size_t set, uint64_t key) {
    for (struct slot *s = &c->slots[set * CACHE_WAYS]; s < &c->slots[(set + 1) * CACHE_WAYS]; s++) {
        if (s->key == key) {
            return s;
        }
    }
    return NULL;
}

/* The slot that a new page may have: a free one, or the one that was of no use for longest, if that is two passes. */
static struct slot *victim(struct cache *c, size_t set, uint32_t pass) {
    struct slot *oldest = &c->slots[set * CACHE_WAYS];
    for (struct slot *s = oldest; s < &c->slots[(set + 1) * CACHE_WAYS]; s++) {
        if (s->key == 0) {
            return s;
        }
        oldest = s->used < oldest->used ? s : oldest;
    }
    return oldest->used + 2 < pass ? oldest : NULL;
}

size_t cache_change(struct cache *c, uint16_t block, uint64_t page, uint32_t pass, const uint8_t *now, uint8_t *out,
                    size_t capacity) {
    uint64_t key = key_of(block, page);
    size_t set = set_of(c, key), size = 0;
    LOCK_GUARD(&c->locks[set % LOCKS]);
    struct slot *s = find(c, set, key);
    bool known = s != NULL;
    if (!known && (atomic_load(&c->held) >= atomic_load(&c->most) || (s = victim(c, set, pass)) == NULL)) {
        return 0;
    }
    if (s->key == 0) {
        atomic_fetch_add(&c->held, 1);
    }
    uint8_t *held = c->pages + (size_t)(s - c->slots) * RAM_PAGE_SIZE;
    if (known) {
        size = delta_encode(held, now, RAM_PAGE_SIZE, out, capacity);
    }
    *s = (struct slot){ key, pass };
    memcpy(held, now, RAM_PAGE_SIZE);
    return size;
}

void cache_drop(struct cache *c, uint16_t block, uint64_t page) {
    uint64_t key = key_of(block, page);
    size_t set = set_of(c, key);
    LOCK_GUARD(&c->locks[set % LOCKS]);
    struct slot *s = find(c, set, key);
    if (s != NULL) {
        *s = (struct slot){ 0 };
        atomic_fetch_sub(&c->held, 1);
    }
}
