/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/send.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "ram/encode.h"
#include "ram/gather.h"
#include "ram/offload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#define NAME_SIZE 16

struct send_channel {
    struct conn *conn;
    bool taken; /* a thread writes to it */
    bool ended; /* the running pass, on it */
    uint32_t pages_in_pass;
};

struct send_thread {
    struct ram_send *send;
    unsigned index;
    _Atomic pid_t tid; /* 0: it has not begun */
    pthread_t thread;
    struct encoder encoder;
    batch_heads head;
};

struct ram_send {
    struct ram *ram;
    struct ram_send_config config;
    struct pass pass;
    struct gather gather;
    struct offload offload;
    struct choice choice;
    struct ram_counters counters;
    int event_fd;
    struct send_thread *threads;
    unsigned thread_count, started;
    unsigned max_batches;
    _Atomic bool urgent;

    pthread_mutex_t lock; /* owns what follows */
    pthread_cond_t work;  /* an idle thread has something to do */
    uint32_t number;      /* of the running or last pass */
    bool running, ending;
    struct error failure;
    unsigned idle, gathering, max_gathering, batches;
    unsigned offloaded; /* batches that accelerators have */
    struct send_channel *channels;
    struct batch *unused; /* last in, first out: what was used last is in the cache */
    struct batch *ready, **ready_end;
};

/* ---- what there is to do; all under the lock ---- */

enum job { JOB_NONE, JOB_GATHER, JOB_WRITE, JOB_END_PASS };

static struct send_channel *free_channel(struct ram_send *s, bool to_end) {
    for (unsigned i = 0; i < s->config.channels; i++) {
        struct send_channel *ch = &s->channels[i];
        if (!ch->taken && !(to_end && ch->ended)) {
            return ch;
        }
    }
    return NULL;
}

static bool may_gather(struct ram_send *s) {
    return s->gathering < s->max_gathering && (s->unused != NULL || s->batches < s->max_batches) &&
           pass_has_chunk(&s->pass);
}

static bool all_gathered(struct ram_send *s) {
    return s->gathering == 0 && s->offloaded == 0 && s->ready == NULL && !pass_has_chunk(&s->pass);
}

static enum job find_job(struct ram_send *s) {
    if (!s->running || error_is_set(&s->failure)) {
        return JOB_NONE;
    }
    if (s->ready != NULL && free_channel(s, false) != NULL) {
        return JOB_WRITE;
    }
    if (may_gather(s)) {
        return JOB_GATHER;
    }
    return all_gathered(s) && free_channel(s, true) != NULL ? JOB_END_PASS : JOB_NONE;
}

/* Whoever goes off to do something lets the next one see whether there is more. */
static void wake_next(struct ram_send *s) {
    if (s->idle > 0 && find_job(s) != JOB_NONE) {
        pthread_cond_signal(&s->work);
    }
}

static void fail(struct ram_send *s, const struct error *cause) {
    if (!error_is_set(&s->failure)) {
        s->failure = *cause;
    }
    eventfd_write(s->event_fd, 1);
}

static void put_unused(struct ram_send *s, struct batch *b) {
    b->next = s->unused;
    s->unused = b;
}

static void put_ready(struct ram_send *s, struct batch *b) {
    b->next = NULL;
    *s->ready_end = b;
    s->ready_end = &b->next;
}

static struct batch *take_ready(struct ram_send *s) {
    struct batch *b = s->ready;
    s->ready = b->next;
    if (s->ready == NULL) {
        s->ready_end = &s->ready;
    }
    return b;
}

/* Where CPUs are short, a thread of the guest gets three times what one of ours does. */
#define NICE 5

static void set_priority(struct send_thread *t, bool urgent) {
    pid_t tid = atomic_load(&t->tid);
    if (tid != 0 && setpriority(PRIO_PROCESS, (id_t)tid, urgent ? 0 : NICE) < 0) {
        log_debug("the priority of thread %d cannot be set: %s", (int)tid, strerror(errno));
    }
}

/* Keeps the thread's work within the budget. */
static void pace(struct ram_send *s, int64_t cpu_begin) {
    if (s->config.pace != NULL) {
        cpu_pace(s->config.pace, clock_thread_cpu() - cpu_begin);
    }
}

/* ---- the jobs; they are called with the lock, leave it for the work, and come back with it ---- */

static struct batch *take_unused(struct ram_send *s) {
    struct batch *b = s->unused;
    if (b != NULL) {
        s->unused = b->next;
    } else {
        s->batches++;
    }
    return b;
}

/* A batch comes back from an accelerator, on one of its threads. */
static void offload_done(void *opaque, struct batch *b) {
    struct ram_send *s = opaque;
    LOCK_GUARD(&s->lock);
    s->offloaded--;
    put_ready(s, b);
    wake_next(s);
}

/* True when an accelerator has the batch now: it belongs to us no longer. */
static bool offload(struct ram_send *s, const struct pick *pick, struct batch *b) {
    /* While the guest stands still nobody waits for a device that may hang. */
    if (!pick->device || s->offload.accel == NULL || atomic_load(&s->urgent)) {
        return false;
    }
    pthread_mutex_lock(&s->lock);
    s->offloaded++;
    pthread_mutex_unlock(&s->lock);
    if (offload_batch(&s->offload, b)) {
        return true;
    }
    pthread_mutex_lock(&s->lock);
    s->offloaded--;
    pthread_mutex_unlock(&s->lock);
    return false;
}

enum made { MADE_BROKEN = -1, MADE_READY, MADE_OFFLOADED };

static enum made make_batch(struct send_thread *t, struct batch *b, uint32_t pass, struct error *err) {
    struct ram_send *s = t->send;
    struct pick pick;
    batch_reset(b, pass);
    int64_t begin = clock_now(), cpu = clock_thread_cpu();
    if (gather_batch(&s->gather, b, err) < 0) {
        return MADE_BROKEN;
    }
    if (b->full.pages == 0) {
        return MADE_READY;
    }
    struct span span = { clock_thread_cpu() - cpu, clock_now() - begin };
    choice_gathered(&s->choice, batch_raw_size(b), span);
    if (!encode_choose(&t->encoder, b, &pick)) {
        return MADE_READY;
    }
    if (offload(s, &pick, b)) {
        return MADE_OFFLOADED;
    }
    return encode_batch(&t->encoder, &pick, b, err) < 0 ? MADE_BROKEN : MADE_READY;
}

static struct batch *new_batch(struct ram_send *s) {
    size_t size = (size_t)s->config.pages_per_batch * RAM_PAGE_SIZE;
    /* Memory that the accelerators can read: the copy out of guest memory is the only one. */
    uint8_t *bytes = s->offload.accel != NULL ? accel_alloc(s->offload.accel, size) : NULL;
    return s->offload.accel != NULL && bytes == NULL ? NULL : batch_new(s->config.pages_per_batch, bytes);
}

static void gather_job(struct send_thread *t) {
    struct ram_send *s = t->send;
    struct error err = { 0 };
    struct batch *b = take_unused(s);
    uint32_t pass = s->number;
    s->gathering++;
    wake_next(s);
    pthread_mutex_unlock(&s->lock);
    if (b == NULL && (b = new_batch(s)) == NULL) {
        error_set(&err, ERROR_SYSTEM, "no memory for a batch of pages");
    }
    int64_t cpu = clock_thread_cpu();
    enum made made = b != NULL ? make_batch(t, b, pass, &err) : MADE_BROKEN;
    pace(s, cpu);
    pthread_mutex_lock(&s->lock);
    s->gathering--;
    if (made == MADE_BROKEN) {
        fail(s, &err);
    }
    if (b == NULL) {
        s->batches--;
    } else if (made == MADE_BROKEN || (made == MADE_READY && batch_is_empty(b))) {
        put_unused(s, b);
    } else if (made == MADE_READY) {
        put_ready(s, b);
    }
}

/* What no accelerator could do is done here, so that the pass goes on. */
static int encode_refused(struct send_thread *t, struct batch *b, struct error *err) {
    struct pick pick;
    count(&t->send->counters.fallbacks, 1);
    b->refused = false;
    return encode_choose(&t->encoder, b, &pick) ? encode_batch(&t->encoder, &pick, b, err) : 0;
}

static int write_batch(struct send_thread *t, struct send_channel *ch, struct batch *b, struct error *err) {
    struct ram_send *s = t->send;
    if (fault_planned("corrupt-batch", NULL) && b->payload_size > 0 &&
        b->pass >= (uint32_t)fault_value("corrupt-batch", NULL, 1)) {
        ((uint8_t *)(uintptr_t)b->payload)[b->payload_size / 2] ^= 1;
    }
    int64_t cpu = clock_thread_cpu();
    if (b->refused && encode_refused(t, b, err) < 0) {
        return -1;
    }
    uint64_t sent = atomic_load(&ch->conn->sent);
    int64_t writing = clock_thread_cpu(), blocked = atomic_load(&ch->conn->blocked);
    if (batch_write(b, s->config.key, ch->conn, t->head, err) < 0) {
        return -1;
    }
    choice_written(&s->choice, batch_raw_size(b), atomic_load(&ch->conn->sent) - sent, clock_thread_cpu() - writing,
                   atomic_load(&ch->conn->blocked) - blocked, clock_now());
    encode_count(&s->counters, b);
    offload_release(&s->offload, b);
    pace(s, cpu);
    return 0;
}

static void write_job(struct send_thread *t) {
    struct ram_send *s = t->send;
    struct error err = { 0 };
    struct send_channel *ch = free_channel(s, false);
    struct batch *b = take_ready(s);
    ch->taken = true;
    ch->pages_in_pass += b->full.pages + b->delta.pages;
    wake_next(s);
    pthread_mutex_unlock(&s->lock);
    int rc = write_batch(t, ch, b, &err);
    pthread_mutex_lock(&s->lock);
    ch->taken = false;
    put_unused(s, b);
    if (rc < 0) {
        fail(s, &err);
    }
}

static bool pass_has_ended(const struct ram_send *s) {
    for (unsigned i = 0; i < s->config.channels; i++) {
        if (!s->channels[i].ended || s->channels[i].taken) {
            return false;
        }
    }
    return true;
}

static void end_pass_job(struct send_thread *t) {
    struct ram_send *s = t->send;
    struct error err = { 0 };
    struct send_channel *ch = free_channel(s, true);
    ch->taken = ch->ended = true;
    struct frame end = { .kind = FRAME_PASS_END, .pass = s->number, .pages = ch->pages_in_pass };
    ch->pages_in_pass = 0;
    wake_next(s);
    pthread_mutex_unlock(&s->lock);
    int rc = conn_write(ch->conn, t->head[0], frame_encode(&end, NULL, t->head[0]), &err);
    pthread_mutex_lock(&s->lock);
    ch->taken = false;
    if (rc < 0) {
        fail(s, &err);
    } else if (pass_has_ended(s)) {
        s->running = false;
        eventfd_write(s->event_fd, 1);
    }
}

static void *run_thread(void *opaque) {
    struct send_thread *t = opaque;
    struct ram_send *s = t->send;
    char name[NAME_SIZE];
    snprintf(name, sizeof(name), "send %u", t->index);
    pthread_setname_np(pthread_self(), name);
    atomic_store(&t->tid, gettid());
    set_priority(t, atomic_load(&s->urgent));
    LOCK_GUARD(&s->lock);
    while (!s->ending) {
        switch (find_job(s)) {
        case JOB_GATHER:
            gather_job(t);
            break;
        case JOB_WRITE:
            write_job(t);
            break;
        case JOB_END_PASS:
            end_pass_job(t);
            break;
        case JOB_NONE:
            s->idle++;
            pthread_cond_wait(&s->work, &s->lock);
            s->idle--;
        }
    }
    return NULL;
}

/* ---- the main thread's side ---- */

/* Batches under way: each gathering thread has one, each channel writes one and has another one ready. */
#define OFFLOADED_BATCHES 32 /* with accelerators, whose queues must not run empty */
#define MAX_BATCH_MEMORY (UINT64_C(64) << 20)

static unsigned batches_for(const struct ram_send_config *c) {
    uint64_t want = c->max_threads + 2 * c->channels + (c->accel != NULL ? OFFLOADED_BATCHES : 0);
    uint64_t most = MAX_BATCH_MEMORY / (2 * (uint64_t)c->pages_per_batch * RAM_PAGE_SIZE);
    uint64_t least = c->channels + 1;
    return (unsigned)(want < most ? want : most > least ? most : least);
}

static int start_threads(struct ram_send *s, struct error *err) {
    for (unsigned i = 0; i < s->thread_count; i++) {
        struct send_thread *t = &s->threads[i];
        t->send = s;
        t->index = i;
        t->encoder = (struct encoder){ .choice = &s->choice, .compression = s->config.compression };
        if (pthread_create(&t->thread, NULL, run_thread, t) != 0) {
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
    s->max_batches = batches_for(config);
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
                                   .done = offload_done,
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

void ram_send_close(struct ram_send *s) {
    if (s == NULL) {
        return;
    }
    ram_send_stop(s);
    free_batches(s->ready);
    free_batches(s->unused);
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
    wake_next(s);
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
        set_priority(&s->threads[i], urgent);
    }
}

void ram_send_set_cache(struct ram_send *s, uint64_t bytes) {
    uint64_t have = cache_size(s->gather.cache);
    if (have <= bytes && bytes < 2 * have) {
        return; /* the same power of two */
    }
    cache_close(s->gather.cache);
    s->gather.cache = cache_open(bytes);
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
