/* SPDX-License-Identifier: Apache-2.0 */
#include "dirty.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "pace.h"
#include "stamp.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

static int report_wrong(const struct dirty_thread *thread, uint64_t page, struct error *err) {
    uint64_t inside;
    const struct ram *ram = memory_block(thread->dirty->memory, page, &inside);
    return error_set(err, ERROR_CORRUPT, "page %llu of thread %u is wrong (in %s, version %u)",
                     (unsigned long long)inside, thread->index, ram->id, thread->versions[page - thread->first]);
}

static bool touch_next(struct dirty_thread *thread) {
    const struct load *load = &thread->dirty->load;
    uint64_t index = 0;
    if (thread->pages == 0 || !plan_next(&thread->plan, load, thread->pages, &index)) {
        return false;
    }
    uint64_t page = thread->first + index;
    uint8_t *bytes = memory_page(thread->dirty->memory, page);
    uint8_t version = thread->versions[index];
    if (version != 0 && !stamp_holds(bytes, load, page, version)) {
        struct error err = { 0 };
        report_wrong(thread, page, &err);
        fprintf(stderr, "stunt: %s\n", err.desc);
        _exit(3);
    }
    if (version == 0 || !load->same) {
        version = stamp_next_version(version);
    }
    stamp_write(bytes, load, page, version);
    thread->versions[index] = version;
    atomic_store_explicit(&thread->stamps, ++thread->plan.stamps, memory_order_relaxed);
    return true;
}

/* Waits at most `ns` (negative: for ever), less when the guest is stopped. */
static void doze(struct dirty *dirty, int64_t ns) {
    int64_t until = clock_now() + ns;
    struct timespec deadline = { .tv_sec = until / CLOCK_S, .tv_nsec = until % CLOCK_S };
    LOCK_GUARD(&dirty->lock);
    int result = 0;
    while (result == 0 && atomic_load(&dirty->run)) {
        result = ns < 0 ? pthread_cond_wait(&dirty->changed, &dirty->lock)
                        : pthread_cond_timedwait(&dirty->changed, &dirty->lock, &deadline);
    }
}

static void write_until_stopped(struct dirty_thread *thread) {
    struct dirty *dirty = thread->dirty;
    struct pace pace;
    pace_begin(&pace);
    unsigned left = 0;
    while (atomic_load_explicit(&dirty->run, memory_order_relaxed)) {
        if (left == 0) {
            int64_t wait = 0;
            left = pace_take(&pace, &dirty->load, &thread->plan, &wait);
            if (left == 0) {
                doze(dirty, wait);
                continue;
            }
        }
        left--;
        if (!touch_next(thread)) {
            doze(dirty, -1);
        }
    }
    pace_end(&pace, &thread->plan);
}

static void *thread_main(void *argument) {
    struct dirty_thread *thread = argument;
    struct dirty *dirty = thread->dirty;
    pthread_mutex_lock(&dirty->lock);
    thread->tid = gettid();
    for (;;) {
        dirty->parked++;
        pthread_cond_broadcast(&dirty->changed);
        while (!atomic_load(&dirty->run) && !dirty->quit) {
            pthread_cond_wait(&dirty->changed, &dirty->lock);
        }
        dirty->parked--;
        if (dirty->quit) {
            break;
        }
        pthread_mutex_unlock(&dirty->lock);
        write_until_stopped(thread);
        pthread_mutex_lock(&dirty->lock);
    }
    pthread_mutex_unlock(&dirty->lock);
    return NULL;
}

/* Gives every thread its part of the memory. */
static int assign_parts(struct dirty *dirty, struct error *err) {
    const struct load *load = &dirty->load;
    uint64_t part = dirty->memory->pages / load->threads;
    uint64_t hot = load->hot == 0 ? part : load->hot / STUNT_PAGE / load->threads;
    hot = hot == 0 ? 1 : hot;
    for (unsigned i = 0; i < dirty->count; i++) {
        struct dirty_thread *thread = &dirty->threads[i];
        free(thread->versions);
        thread->first = i * part;
        thread->pages = i >= load->threads ? 0 : hot < part ? hot : part;
        thread->versions = calloc(thread->pages + 1, 1);
        if (thread->versions == NULL) {
            return error_set(err, ERROR_SYSTEM, "no memory for the versions of %llu pages",
                             (unsigned long long)thread->pages);
        }
        plan_begin(&thread->plan, load, i);
        atomic_store(&thread->stamps, 0);
    }
    return 0;
}

static void init_gate(struct dirty *dirty) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&dirty->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&dirty->lock, NULL);
}

static void wait_parked(struct dirty *dirty) {
    while (dirty->parked < dirty->count) {
        pthread_cond_wait(&dirty->changed, &dirty->lock);
    }
}

int dirty_open(struct dirty *dirty, const struct memory *memory, const struct load *load, unsigned cpus,
               struct error *err) {
    *dirty = (struct dirty){ .memory = memory, .load = *load };
    init_gate(dirty);
    dirty->threads = calloc(cpus, sizeof(*dirty->threads));
    if (dirty->threads == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory for %u threads", cpus);
    }
    for (unsigned i = 0; i < cpus; i++) {
        struct dirty_thread *thread = &dirty->threads[i];
        thread->dirty = dirty;
        thread->index = i;
        errno = pthread_create(&thread->thread, NULL, thread_main, thread);
        if (errno != 0) {
            return error_errno(err, ERROR_SYSTEM, "CPU thread %u", i);
        }
        dirty->count++;
    }
    pthread_mutex_lock(&dirty->lock);
    wait_parked(dirty);
    pthread_mutex_unlock(&dirty->lock);
    return assign_parts(dirty, err);
}

void dirty_close(struct dirty *dirty) {
    if (dirty->threads == NULL) {
        return;
    }
    pthread_mutex_lock(&dirty->lock);
    atomic_store(&dirty->run, false);
    dirty->quit = true;
    pthread_cond_broadcast(&dirty->changed);
    pthread_mutex_unlock(&dirty->lock);
    for (unsigned i = 0; i < dirty->count; i++) {
        pthread_join(dirty->threads[i].thread, NULL);
        free(dirty->threads[i].versions);
    }
    free(dirty->threads);
    dirty->threads = NULL;
}

void dirty_start(struct dirty *dirty) {
    LOCK_GUARD(&dirty->lock);
    atomic_store(&dirty->run, true);
    pthread_cond_broadcast(&dirty->changed);
}

void dirty_stop(struct dirty *dirty) {
    LOCK_GUARD(&dirty->lock);
    atomic_store(&dirty->run, false);
    pthread_cond_broadcast(&dirty->changed);
    wait_parked(dirty);
}

bool dirty_running(struct dirty *dirty) {
    return atomic_load(&dirty->run);
}

uint64_t dirty_stamps(struct dirty *dirty) {
    uint64_t stamps = 0;
    for (unsigned i = 0; i < dirty->count; i++) {
        stamps += atomic_load_explicit(&dirty->threads[i].stamps, memory_order_relaxed);
    }
    return stamps;
}

void dirty_save(const struct dirty *dirty, struct blob *blob) {
    blob_put(blob, dirty->count);
    load_save(&dirty->load, blob);
    for (unsigned i = 0; i < dirty->count; i++) {
        const struct dirty_thread *thread = &dirty->threads[i];
        blob_put(blob, thread->plan.random);
        blob_put(blob, thread->plan.cursor);
        blob_put(blob, thread->plan.run_ns);
        blob_put(blob, thread->plan.stamps);
        blob_put(blob, thread->pages);
        blob_put_bytes(blob, thread->versions, thread->pages);
    }
}

static int restore_thread(struct dirty_thread *thread, struct blob *blob, struct error *err) {
    struct plan *plan = &thread->plan;
    uint64_t pages = 0;
    if (blob_get_range(blob, "random", 1, UINT64_MAX, &plan->random, err) < 0 ||
        blob_get(blob, &plan->cursor, err) < 0 || blob_get(blob, &plan->run_ns, err) < 0 ||
        blob_get(blob, &plan->stamps, err) < 0 ||
        blob_get_range(blob, "pages of a thread", thread->pages, thread->pages, &pages, err) < 0 ||
        blob_get_bytes(blob, thread->versions, thread->pages, err) < 0) {
        return -1;
    }
    atomic_store(&thread->stamps, plan->stamps);
    return 0;
}

int dirty_restore(struct dirty *dirty, struct blob *blob, struct error *err) {
    uint64_t cpus = 0;
    if (blob_get_range(blob, "number of CPUs", dirty->count, dirty->count, &cpus, err) < 0 ||
        load_restore(&dirty->load, blob, err) < 0) {
        return -1;
    }
    if (dirty->load.threads > dirty->count) {
        return error_set(err, ERROR_PEER, "more threads than CPUs");
    }
    if (assign_parts(dirty, err) < 0) {
        return -1;
    }
    for (unsigned i = 0; i < dirty->count; i++) {
        if (restore_thread(&dirty->threads[i], blob, err) < 0) {
            return -1;
        }
    }
    return 0;
}

int dirty_check(const struct dirty *dirty, struct error *err) {
    for (unsigned i = 0; i < dirty->count; i++) {
        const struct dirty_thread *thread = &dirty->threads[i];
        for (uint64_t at = 0; at < thread->pages; at++) {
            uint64_t page = thread->first + at;
            if (thread->versions[at] != 0 &&
                !stamp_holds(memory_page(dirty->memory, page), &dirty->load, page, thread->versions[at])) {
                return report_wrong(thread, page, err);
            }
        }
    }
    return 0;
}
