/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/receive.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "ram/order.h"
#include "ram/place.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct receive_channel {
    struct conn *conn;
    bool taken; /* a thread reads from it */
    bool ended;
    unsigned under_way; /* frames that were read and are not in place */
    uint32_t pages_in_pass;
};

struct receive_thread {
    struct ram_receive *receive;
    unsigned index;
    pthread_t thread;
    struct placer placer;
    uint8_t head[FRAME_HEADER_SIZE + FRAME_MAX_PAGES * FRAME_RUN_SIZE];
};

struct ram_receive {
    struct ram_receive_config config;
    struct frame_bounds bounds;
    struct order order;
    int event_fd;
    _Atomic uint64_t pages, rejected;
    struct receive_costs costs;
    struct placer_devices devices;
    struct receive_thread *threads;
    unsigned thread_count, started;

    pthread_mutex_t lock; /* owns what follows */
    pthread_cond_t channel_free, decoder_free, placed;
    struct receive_channel *channels;
    unsigned decoding;
    uint64_t tickets, turn; /* frames are begun in the order in which they were read */
    bool closing;
    struct ram_rejection *rejections, **rejections_end;
    struct error failure;
};

/* ---- a turn: read, hand on, place ---- */

static unsigned index_of(const struct ram_receive *r, const struct receive_channel *ch) {
    return (unsigned)(ch - r->channels);
}

/* Reads a frame: 0, 1 when the peer has ended the channel between frames, -1. Waits, with the channel in hand, until
 * the order lets something of the frame's pass be placed: what comes behind it waits in the socket. */
static int read_frame(struct receive_thread *t, struct receive_channel *ch, struct frame *f, struct error *err) {
    struct ram_receive *r = t->receive;
    int rc = conn_read_or_end(ch->conn, t->head, FRAME_HEADER_SIZE, err);
    if (rc != 0) {
        return rc;
    }
    if (frame_decode_header(t->head, &r->bounds, f, err) < 0 ||
        conn_read(ch->conn, t->head + FRAME_HEADER_SIZE, (size_t)f->runs * FRAME_RUN_SIZE, err) < 0 ||
        frame_decode_runs(t->head, &r->bounds, f, t->placer.runs, err) < 0) {
        return -1;
    }
    if (f->kind == FRAME_PASS_END) {
        return 0;
    }
    if (place_check(f, err) < 0 || order_enter(&r->order, index_of(r, ch), f->pass, err) < 0) {
        return -1;
    }
    if (f->payload == 0) {
        return 0;
    }
    int64_t begin = clock_thread_cpu();
    rc = conn_read(ch->conn, t->placer.payload, f->payload, err);
    cost_add(&r->costs.read, f->payload, clock_thread_cpu() - begin);
    return rc;
}

static void note_rejection(struct ram_receive *r, const struct receive_thread *t, const struct frame *f) {
    size_t size = f->runs * sizeof(struct frame_run);
    struct ram_rejection *n = malloc(sizeof(*n) + size);
    if (n == NULL) {
        error_set(&r->failure, ERROR_SYSTEM, "no memory to reject a batch");
        return;
    }
    *n = (struct ram_rejection){ .block = f->index, .device = f->device, .runs = f->runs };
    memcpy(n->run, t->placer.runs, size);
    *r->rejections_end = n;
    r->rejections_end = &n->next;
    eventfd_write(r->event_fd, 1);
}

static void fail(struct ram_receive *r, const struct error *cause) {
    if (!error_is_set(&r->failure)) {
        r->failure = *cause;
    }
    r->closing = true;
    order_break(&r->order);
    pthread_cond_broadcast(&r->channel_free);
    pthread_cond_broadcast(&r->decoder_free);
    pthread_cond_broadcast(&r->placed);
    eventfd_write(r->event_fd, 1);
}

static void hand_on(struct ram_receive *r, struct receive_channel *ch) {
    ch->taken = false;
    pthread_cond_signal(&r->channel_free);
}

static void take_faults(unsigned channel, const struct frame *f) {
    int64_t delay = fault_value_at("decoder-delay", channel, 0), pass = fault_value("decoder-delay-pass", NULL, 0);
    if (delay > 0 && f->kind != FRAME_ZERO && (pass == 0 || pass == f->pass)) {
        clock_sleep(delay * CLOCK_MS);
    }
}

static void wait_turn(struct ram_receive *r) {
    uint64_t ticket = r->tickets++;
    while ((r->decoding == r->config.decode_threads || ticket != r->turn) && !r->closing) {
        pthread_cond_wait(&r->decoder_free, &r->lock);
    }
    r->turn++;
    r->decoding++;
    if (r->tickets > r->turn) {
        pthread_cond_broadcast(&r->decoder_free);
    }
}

/* With the lock; leaves it while placing. */
static int place(struct receive_thread *t, struct receive_channel *ch, const struct frame *f, struct error *err) {
    struct ram_receive *r = t->receive;
    ch->under_way++;
    ch->pages_in_pass += f->kind == FRAME_ZERO ? 0 : f->pages;
    hand_on(r, ch);
    wait_turn(r);
    if (r->closing) {
        return 0; /* after a failure nothing more is placed */
    }
    pthread_mutex_unlock(&r->lock);
    take_faults(index_of(r, ch), f);
    int64_t cpu = clock_thread_cpu();
    int rc = place_frame(&t->placer, f, err);
    if (r->config.pace != NULL) {
        cpu_pace(r->config.pace, clock_thread_cpu() - cpu);
    }
    if (rc == 0 && f->kind != FRAME_ZERO) {
        atomic_fetch_add_explicit(&r->pages, f->pages, memory_order_relaxed);
    }
    pthread_mutex_lock(&r->lock);
    r->decoding--;
    pthread_cond_broadcast(&r->decoder_free);
    if (--ch->under_way == 0) {
        pthread_cond_broadcast(&r->placed);
    }
    if (rc > 0) {
        note_rejection(r, t, f);
    }
    return rc < 0 ? -1 : 0;
}

/* With the lock, and the channel in hand: until what it brought is in place. */
static void wait_placed(struct ram_receive *r, const struct receive_channel *ch) {
    while (ch->under_way > 0 && !r->closing) {
        pthread_cond_wait(&r->placed, &r->lock);
    }
}

/* With the lock, and the channel in hand. */
static int end_pass(struct ram_receive *r, struct receive_channel *ch, const struct frame *f, struct error *err) {
    if (!fault_planned("early-pass-end", NULL)) {
        wait_placed(r, ch);
    }
    if (f->pages != ch->pages_in_pass) {
        return error_set(err, ERROR_PEER, "channel %u brought %u pages of pass %u and says it sent %u", index_of(r, ch),
                         ch->pages_in_pass, f->pass, f->pages);
    }
    ch->pages_in_pass = 0;
    if (r->closing) {
        return 0;
    }
    if (order_leave(&r->order, index_of(r, ch), f->pass, err) < 0) {
        return -1;
    }
    hand_on(r, ch);
    eventfd_write(r->event_fd, 1);
    return 0;
}

/* With the lock; the channel was just taken. */
static int take_turn(struct receive_thread *t, struct receive_channel *ch, struct error *err) {
    struct ram_receive *r = t->receive;
    struct frame f;
    pthread_mutex_unlock(&r->lock);
    int rc = read_frame(t, ch, &f, err);
    pthread_mutex_lock(&r->lock);
    if (rc > 0) {
        ch->ended = true;
        eventfd_write(r->event_fd, 1);
        pthread_cond_broadcast(&r->channel_free); /* perhaps it was the last one */
        return 0;
    }
    if (rc < 0) {
        wait_placed(r, ch); /* what came before is right, and is kept */
        return -1;
    }
    return f.kind == FRAME_PASS_END ? end_pass(r, ch, &f, err) : place(t, ch, &f, err);
}

static struct receive_channel *find_channel(struct ram_receive *r, bool *all_ended) {
    *all_ended = true;
    for (unsigned i = 0; i < r->config.channels; i++) {
        struct receive_channel *ch = &r->channels[i];
        *all_ended = *all_ended && ch->ended;
        if (!ch->taken) {
            return ch;
        }
    }
    return NULL;
}

static void *run_thread(void *opaque) {
    struct receive_thread *t = opaque;
    struct ram_receive *r = t->receive;
    char name[16];
    snprintf(name, sizeof(name), "receive %u", t->index);
    pthread_setname_np(pthread_self(), name);
    LOCK_GUARD(&r->lock);
    while (!r->closing) {
        bool all_ended;
        struct receive_channel *ch = find_channel(r, &all_ended);
        struct error err = { 0 };
        if (ch == NULL && all_ended) {
            break;
        }
        if (ch == NULL) {
            pthread_cond_wait(&r->channel_free, &r->lock);
            continue;
        }
        ch->taken = true;
        if (take_turn(t, ch, &err) < 0) {
            fail(r, &err);
        }
    }
    return NULL;
}

/* ---- the main thread's side ---- */

static int start_threads(struct ram_receive *r, struct ram *ram, struct error *err) {
    for (unsigned i = 0; i < r->thread_count; i++) {
        struct receive_thread *t = &r->threads[i];
        t->receive = r;
        t->index = i;
        if (placer_init(&t->placer, ram, r->config.key, &r->rejected, &r->costs, &r->devices, r->config.pages_per_batch,
                        err) < 0) {
            return -1;
        }
        if (pthread_create(&t->thread, NULL, run_thread, t) != 0) {
            return error_errno(err, ERROR_SYSTEM, "cannot start a receiving thread");
        }
        r->started++;
    }
    return 0;
}

static int init(struct ram_receive *r, struct ram *ram, const struct ram_receive_config *config, struct error *err) {
    r->config = *config;
    r->bounds = (struct frame_bounds){ .space[FRAME_RAM] = { ram->count, ram->block_pages },
                                       .max_pages = config->pages_per_batch,
                                       .max_payload = config->pages_per_batch * RAM_PAGE_SIZE };
    r->devices.accel = config->accel;
    r->rejections_end = &r->rejections;
    r->thread_count = config->channels + config->decode_threads;
    r->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->channel_free, NULL);
    pthread_cond_init(&r->decoder_free, NULL);
    pthread_cond_init(&r->placed, NULL);
    r->channels = calloc(config->channels, sizeof(r->channels[0]));
    r->threads = calloc(r->thread_count, sizeof(r->threads[0]));
    if (order_init(&r->order, config->channels, err) < 0 || r->channels == NULL || r->threads == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory for the channels");
    }
    for (unsigned i = 0; i < config->channels; i++) {
        r->channels[i].conn = &config->conns[i];
    }
    return start_threads(r, ram, err);
}

struct ram_receive *ram_receive_open(struct ram *ram, const struct ram_receive_config *config, struct error *err) {
    struct ram_receive *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        error_set(err, ERROR_SYSTEM, "no memory for the channels");
        return NULL;
    }
    if (init(r, ram, config, err) < 0) {
        for (unsigned i = 0; i < config->channels; i++) {
            conn_break(&config->conns[i]);
        }
        ram_receive_close(r);
        return NULL;
    }
    return r;
}

/* With the lock: whether a channel was closed that still owes something of the pass. A peer that does so and lives on
 * would be waited for without end. */
static int check_ended(struct ram_receive *r, uint32_t pass, struct error *err) {
    for (unsigned i = 0; i < r->config.channels; i++) {
        if (r->channels[i].ended && order_placed_by(&r->order, i) < pass) {
            return error_set(err, ERROR_LINK, "the source closed RAM channel %u before the end of a pass", i);
        }
    }
    return 0;
}

int ram_receive_poll(struct ram_receive *r, uint32_t pass, struct error *err) {
    eventfd_t drained;
    eventfd_read(r->event_fd, &drained);
    LOCK_GUARD(&r->lock);
    if (error_is_set(&r->failure)) {
        return error_set(err, r->failure.class, "%s", r->failure.desc);
    }
    return order_placed(&r->order) >= pass ? 1 : check_ended(r, pass, err);
}

int ram_receive_poll_fd(const struct ram_receive *r) {
    return r->event_fd;
}

struct ram_rejection *ram_receive_take_rejection(struct ram_receive *r) {
    LOCK_GUARD(&r->lock);
    struct ram_rejection *n = r->rejections;
    if (n != NULL && (r->rejections = n->next) == NULL) {
        r->rejections_end = &r->rejections;
    }
    return n;
}

void ram_receive_set_urgent(struct ram_receive *r) {
    atomic_store(&r->devices.urgent, true);
}

uint64_t ram_receive_fallbacks(const struct ram_receive *r) {
    return atomic_load(&r->devices.fallbacks);
}

unsigned ram_receive_threads(const struct ram_receive *r) {
    return r->config.decode_threads;
}

const struct receive_costs *ram_receive_costs(const struct ram_receive *r) {
    return &r->costs;
}

uint64_t ram_receive_rejected(const struct ram_receive *r) {
    return atomic_load(&r->rejected);
}

uint64_t ram_receive_pages(const struct ram_receive *r) {
    return atomic_load_explicit(&r->pages, memory_order_relaxed);
}

static void end_threads(struct ram_receive *r) {
    order_break(&r->order);
    pthread_mutex_lock(&r->lock);
    r->closing = true;
    pthread_cond_broadcast(&r->channel_free);
    pthread_cond_broadcast(&r->decoder_free);
    pthread_cond_broadcast(&r->placed);
    pthread_mutex_unlock(&r->lock);
    for (unsigned i = 0; i < r->started; i++) {
        pthread_join(r->threads[i].thread, NULL);
    }
    for (unsigned i = 0; i < r->thread_count; i++) {
        placer_free(&r->threads[i].placer);
    }
}

void ram_receive_close(struct ram_receive *r) {
    if (r == NULL) {
        return;
    }
    if (r->threads != NULL && r->channels != NULL) {
        end_threads(r);
    }
    struct ram_rejection *n;
    while ((n = ram_receive_take_rejection(r)) != NULL) {
        free(n);
    }
    order_destroy(&r->order);
    close(r->event_fd);
    pthread_cond_destroy(&r->channel_free);
    pthread_cond_destroy(&r->decoder_free);
    pthread_cond_destroy(&r->placed);
    pthread_mutex_destroy(&r->lock);
    free(r->channels);
    free(r->threads);
    free(r);
}
