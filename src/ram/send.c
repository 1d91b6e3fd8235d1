/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/send_internal.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Batches under way: each gathering thread has a shelf and what it compresses, each channel writes one and has another
 * one ready. */
#define OFFLOADED_BATCHES 32 /* with accelerators, whose queues must not run empty */
#define MAX_BATCH_MEMORY (UINT64_C(64) << 20)
/* Below that a unit is too small for pages of a kind to gain by it, and the batches that wait are many. */
#define LEAST_PAGES_APART 32u

/* Batches that lie on shelves are counted apart: what is decided for a batch is to reach the link soon. */
static void plan_batches(struct ram_send *s) {
    const struct ram_send_config *c = &s->config;
    uint64_t most = MAX_BATCH_MEMORY / (2 * (uint64_t)c->pages_per_batch * RAM_PAGE_SIZE);
    uint64_t want = c->max_threads + 2 * c->channels + (c->accel != NULL ? OFFLOADED_BATCHES : 0);
    uint64_t least = c->channels + 1;
    bool apart = c->pages_per_batch >= LEAST_PAGES_APART && least + PAGE_KINDS <= most;
    s->kinds = apart ? PAGE_KINDS : 1;
    most = most > least + s->kinds ? most - s->kinds : least; /* for the first shelf */
    s->max_batches = (unsigned)(want < most ? want : most);
    uint64_t shelves = 1 + (most - s->max_batches) / s->kinds;
    s->max_shelves = (unsigned)(shelves < c->max_threads ? shelves : c->max_threads);
}

static int start_threads(struct ram_send *s, struct error *err) {
    for (unsigned i = 0; i < s->thread_count; i++) {
        struct send_thread *t = &s->threads[i];
        t->send = s;
        t->index = i;
        t->encoder = (struct encoder){ .choice = &s->choice, .compression = s->config.compression };
        if (pthread_create(&t->thread, NULL, send_run_thread, t) != 0) {
            return error_errno(err, ERROR_SYSTEM, "cannot start a sending thread");
        }
        s->started++;
    }
    return 0;
}

static int init(struct ram_send *s, struct ram *ram, const struct ram_send_config *config, struct error *err) {
    s->ram = ram;
    s->config = *config;
    s->ready_end = &s->ready;
    s->max_gathering = config->max_threads;
    s->thread_count = config->max_threads + config->channels;
    plan_batches(s);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    choice_init(&s->choice, config->channels, config->max_threads);
    s->gather = (struct gather){
        .pass = &s->pass, .key = config->key, .settings = config->compression, .counters = &s->counters
    };
    s->offload = (struct offload){ .accel = config->accel,
                                   .choice = &s->choice,
                                   .compression = config->compression,
                                   .counters = &s->counters,
                                   .done = send_offload_done,
                                   .opaque = s };
    choice_set_devices(&s->choice, config->accel != NULL);
    s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->channels = calloc(config->channels, sizeof(s->channels[0]));
    s->threads = calloc(s->thread_count, sizeof(s->threads[0]));
    if (s->event_fd < 0 || s->channels == NULL || s->threads == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the sending threads");
    }
    if (pass_init(&s->pass, ram, err) < 0) {
        return -1;
    }
    for (unsigned i = 0; i < config->channels; i++) {
        s->channels[i].conn = &config->conns[i];
    }
    return start_threads(s, err);
}

struct ram_send *ram_send_open(struct ram *ram, const struct ram_send_config *config, struct error *err) {
    struct ram_send *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory for the sending threads");
        return NULL;
    }
    if (init(s, ram, config, err) < 0) {
        ram_send_close(s);
        return NULL;
    }
    return s;
}

void ram_send_stop(struct ram_send *s) {
    if (s == NULL) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->started; i++) {
        pthread_join(s->threads[i].thread, NULL);
        encoder_free(&s->threads[i].encoder);
    }
    s->started = 0;
}

static void free_batches(struct batch *first) {
    while (first != NULL) {
        struct batch *next = first->next;
        batch_free(first);
        first = next;
    }
}

static void free_shelves(struct shelf *first) {
    while (first != NULL) {
        struct shelf *next = first->next;
        send_free_shelf(first);
        first = next;
    }
}

void ram_send_close(struct ram_send *s) {
    if (s == NULL) {
        return;
    }
    ram_send_stop(s);
    free_batches(s->ready);
    free_batches(s->unused);
    free_shelves(s->open);
    free_shelves(s->spare);
    cache_close(s->gather.cache);
    choice_destroy(&s->choice);
    pass_destroy(&s->pass);
    if (s->event_fd >= 0) {
        close(s->event_fd);
    }
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    free(s->channels);
    free(s->threads);
    free(s);
}

uint32_t ram_send_start(struct ram_send *s, bool whole) {
    LOCK_GUARD(&s->lock);
    pass_begin(&s->pass, whole);
    for (unsigned i = 0; i < s->config.channels; i++) {
        s->channels[i].ended = false;
    }
    choice_resume(&s->choice, clock_now());
    s->number++;
    s->running = true;
    pthread_cond_signal(&s->work);
    return s->number;
}

void ram_send_set_waiting(struct ram_send *s, const uint64_t *chunks) {
    pass_set_waiting(&s->pass, chunks);
}

void ram_send_get_passed(const struct ram_send *s, uint64_t *chunks) {
    pass_get_passed(&s->pass, chunks);
}

uint64_t ram_send_fresh_pages(const struct ram_send *s) {
    return pass_fresh_pages(&s->pass);
}

int ram_send_poll(struct ram_send *s, struct error *err) {
    LOCK_GUARD(&s->lock);
    eventfd_t drained;
    eventfd_read(s->event_fd, &drained);
    if (error_is_set(&s->failure)) {
        return error_set(err, s->failure.class, "%s", s->failure.desc);
    }
    return !s->running;
}

int ram_send_fd(const struct ram_send *s) {
    return s->event_fd;
}

uint32_t ram_send_pass(const struct ram_send *s) {
    return s->number; /* only the main thread changes it */
}

void ram_send_set_threads(struct ram_send *s, unsigned threads, double cpus) {
    choice_set_cpus(&s->choice, cpus, threads);
    LOCK_GUARD(&s->lock);
    s->max_gathering = threads < 1 ? 1 : threads < s->config.max_threads ? threads : s->config.max_threads;
    send_wake_next(s);
}

void ram_send_set_peer(struct ram_send *s, const struct peer_load *load) {
    choice_set_peer(&s->choice, load);
}

void ram_send_set_urgent(struct ram_send *s, bool urgent) {
    if (atomic_exchange(&s->urgent, urgent) == urgent) {
        return;
    }
    if (s->config.pace != NULL) {
        cpu_pace_lift(s->config.pace, urgent);
    }
    for (unsigned i = 0; i < s->thread_count; i++) {
        send_set_priority(&s->threads[i], urgent);
    }
}

void ram_send_set_cache(struct ram_send *s, uint64_t bytes) {
    uint64_t have = cache_size(s->gather.cache);
    if (have <= bytes && bytes - have < CACHE_SET_BYTES) {
        return;
    }
    cache_close(s->gather.cache);
    s->gather.cache = cache_open(bytes);
}

void ram_send_limit_cache(struct ram_send *s, uint64_t bytes) {
    if (s->gather.cache != NULL) {
        cache_limit(s->gather.cache, bytes);
    }
}

uint64_t ram_send_cache_held(const struct ram_send *s) {
    return cache_held(s->gather.cache);
}

void ram_send_forget(struct ram_send *s, uint16_t block, uint64_t first, uint64_t count) {
    struct ram_block *b = &s->ram->blocks[block];
    for (uint64_t page = first; page < first + count; page++) {
        ram_set_digest(b, page, (struct page_digest){ 0, 0 });
        if (s->gather.cache != NULL) {
            cache_drop(s->gather.cache, block, page);
        }
    }
    bits_set_range(b->sent, first, first + count);
    bits_set_range(b->dirty, first, first + count);
}

void ram_send_blame(struct ram_send *s, unsigned device) {
    struct accel *a = s->config.accel;
    if (a != NULL && device > 0 && device <= accel_counters(a, NULL, 0)) {
        accel_blame(a, device - 1);
    }
}

struct ram_counters *ram_send_counters(struct ram_send *s) {
    return &s->counters;
}

bool ram_send_link_bound(struct ram_send *s) {
    return choice_link_bound(&s->choice);
}
