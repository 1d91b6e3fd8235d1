/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include "content.h"
#include "report.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define STEP_MS 5

struct held {
    uint32_t body, version;
};

struct worker {
    const struct settings *settings;
    char *memory;      /* of all workers */
    struct held *held; /* what each page holds, of all workers */
    uint64_t from, to; /* pages of this worker */
    uint64_t swept;    /* the page that the sweep checks next */
    uint64_t random;   /* state of the generator */
    pthread_barrier_t *filled;
};

static struct content content_of(const struct worker *worker, uint64_t page) {
    const struct settings *settings = worker->settings;
    return (struct content){
        .seed = settings->seed,
        .place = page,
        .body = worker->held[page].body,
        .version = worker->held[page].version,
        .kind = content_kind_at(settings->seed, page, settings->mix),
    };
}

static void check(const struct worker *worker, uint64_t page) {
    struct content content = content_of(worker, page);
    report_check("page", worker->memory + page * CONTENT_SIZE, &content);
}

static void fill(const struct worker *worker, uint64_t page) {
    struct content content = content_of(worker, page);
    content_fill(worker->memory + page * CONTENT_SIZE, &content);
}

static uint64_t pick(struct worker *worker) {
    uint64_t count = worker->to - worker->from, hot = count * worker->settings->hot / 100;
    uint64_t r = worker->random = content_hash(worker->random);
    if (hot > 0 && (r >> 56) % 10 != 0) {
        return worker->from + (r & UINT64_C(0xffffffffffff)) % hot;
    }
    return worker->from + (r & UINT64_C(0xffffffffffff)) % count;
}

static void dirty(struct worker *worker) {
    uint64_t page = pick(worker), dice = (worker->random >> 48) % 100;
    check(worker, page);
    if (dice >= worker->settings->same) {
        worker->held[page].version++;
        if (dice >= worker->settings->same + worker->settings->delta) {
            worker->held[page].body++;
        }
    }
    fill(worker, page);
    atomic_fetch_add_explicit(&report.dirtied, 1, memory_order_relaxed);
}

static void sweep(struct worker *worker) {
    check(worker, worker->swept);
    if (++worker->swept == worker->to) {
        worker->swept = worker->from;
    }
}

static uint64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Pages of CONTENT_SIZE that `rate` KiB/s allow in `us`, the remainder kept in *left for the next time. */
static uint64_t allowance(uint64_t rate, uint64_t us, uint64_t *left) {
    uint64_t unit = UINT64_C(1000000) * (CONTENT_SIZE / 1024), all = *left + rate * us;
    *left = all % unit;
    return all / unit;
}

static void *work(void *opaque) {
    struct worker *worker = opaque;
    for (uint64_t page = worker->from; page < worker->to; page++) {
        fill(worker, page);
    }
    pthread_barrier_wait(worker->filled);

    const struct settings *settings = worker->settings;
    uint64_t before = now_us(), dirty_left = 0, sweep_left = 0;
    for (;;) {
        nanosleep(&(struct timespec){ .tv_nsec = STEP_MS * 1000000 }, NULL);
        uint64_t now = now_us(), us = now - before;
        before = now;
        /* A thread that could not keep up does not make up for it in one burst. */
        us = us > 20 * STEP_MS * 1000 ? 20 * STEP_MS * 1000 : us;
        for (uint64_t n = allowance(settings->rate / settings->threads, us, &dirty_left); n > 0; n--) {
            dirty(worker);
        }
        for (uint64_t n = allowance(settings->sweep / settings->threads, us, &sweep_left); n > 0; n--) {
            sweep(worker);
        }
    }
    return NULL;
}

int memory_start(const struct settings *settings) {
    uint64_t pages = settings->mem * 1024 * 1024 / CONTENT_SIZE;
    char *memory = mmap(NULL, pages * CONTENT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct held *held = calloc(pages, sizeof(*held));
    struct worker *workers = calloc(settings->threads, sizeof(*workers));
    static pthread_barrier_t filled;
    if (memory == MAP_FAILED || held == NULL || workers == NULL ||
        pthread_barrier_init(&filled, NULL, (unsigned)settings->threads + 1) != 0) {
        return -1;
    }
    for (uint64_t i = 0; i < settings->threads; i++) {
        uint64_t from = pages * i / settings->threads, to = pages * (i + 1) / settings->threads;
        workers[i] = (struct worker){ .settings = settings,
                                      .memory = memory,
                                      .held = held,
                                      .from = from,
                                      .to = to,
                                      .swept = from,
                                      .random = settings->seed + i,
                                      .filled = &filled };
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, &workers[i]) != 0) {
            return -1;
        }
    }
    pthread_barrier_wait(&filled);
    return 0;
}
