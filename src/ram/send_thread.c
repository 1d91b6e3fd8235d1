/* SPDX-License-Identifier: Apache-2.0 */
/* What the sending threads do: they gather and compress, write, and end passes, whatever there is to do. */
#include "ram/send_internal.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#define NAME_SIZE 16

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

/* One goes on where another one has left off, if that is to be had: what lies on few shelves is less than on many. */
static bool may_gather(struct ram_send *s) {
    if (s->gathering >= s->max_gathering || (s->unused == NULL && s->batches == s->max_batches)) {
        return false;
    }
    bool room = s->spare != NULL || s->shelves < s->max_shelves;
    return s->open != NULL || (room && pass_has_chunk(&s->pass));
}

static bool all_gathered(struct ram_send *s) {
    return s->gathering == 0 && s->offloaded == 0 && s->ready == NULL && s->open == NULL && !pass_has_chunk(&s->pass);
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

void send_wake_next(struct ram_send *s) {
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

void send_set_priority(struct send_thread *t, bool urgent) {
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

void send_offload_done(void *opaque, struct batch *b) {
    struct ram_send *s = opaque;
    LOCK_GUARD(&s->lock);
    s->offloaded--;
    put_ready(s, b);
    send_wake_next(s);
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

static struct batch *new_batch(struct ram_send *s) {
    size_t size = (size_t)s->config.pages_per_batch * RAM_PAGE_SIZE;
    /* Memory that the accelerators can read: the copy out of guest memory is the only one. */
    uint8_t *bytes = s->offload.accel != NULL ? accel_alloc(s->offload.accel, size) : NULL;
    return s->offload.accel != NULL && bytes == NULL ? NULL : batch_new(s->config.pages_per_batch, bytes);
}

void send_free_shelf(struct shelf *shelf) {
    for (unsigned k = 0; shelf != NULL && k < shelf->kinds; k++) {
        batch_free(shelf->batch[k]);
    }
    free(shelf);
}

/* NULL without memory. */
static struct shelf *new_shelf(struct ram_send *s) {
    struct shelf *shelf = calloc(1, sizeof(*shelf));
    if (shelf == NULL) {
        return NULL;
    }
    shelf->kinds = s->kinds;
    for (unsigned k = 0; k < s->kinds; k++) {
        if ((shelf->batch[k] = new_batch(s)) == NULL) {
            send_free_shelf(shelf);
            return NULL;
        }
    }
    return shelf;
}

/* NULL: a new one is to be made, and is counted already. */
static struct shelf *take_shelf(struct ram_send *s) {
    struct shelf **from = s->open != NULL ? &s->open : &s->spare, *shelf = *from;
    if (shelf != NULL) {
        *from = shelf->next;
    } else {
        s->shelves++;
    }
    return shelf;
}

static void put_shelf(struct ram_send *s, struct shelf *shelf) {
    struct shelf **to = shelf_is_empty(shelf) ? &s->spare : &s->open;
    shelf->next = *to;
    *to = shelf;
}

/* What a gathering thread has in its hands. */
struct gathering {
    struct shelf *shelf;
    struct batch *batch; /* empty; then the one that has left the shelf, if one has */
    bool full;           /* one has */
    uint32_t pass;
};

static int make_ready(struct send_thread *t, struct gathering *w, struct error *err) {
    if (w->batch == NULL && (w->batch = new_batch(t->send)) == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory for a batch of pages");
    }
    if (w->shelf == NULL && (w->shelf = new_shelf(t->send)) == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory for batches of pages");
    }
    return 0;
}

/* Fills the shelf until a batch leaves it. */
static int fill_shelf(struct send_thread *t, struct gathering *w, struct error *err) {
    struct ram_send *s = t->send;
    struct gathered got;
    int64_t begin = clock_now(), cpu = clock_thread_cpu();
    bool apart = choice_apart(&s->choice, s->config.compression);
    if (make_ready(t, w, err) < 0 || gather(&s->gather, w->shelf, w->pass, apart, &got, err) < 0) {
        return -1;
    }
    if (got.full_pages > 0) {
        struct span span = { clock_thread_cpu() - cpu, clock_now() - begin };
        choice_gathered(&s->choice, (size_t)got.full_pages * RAM_PAGE_SIZE, span);
    }
    w->full = got.leaves >= 0;
    if (w->full) {
        w->batch = shelf_take(w->shelf, got.leaves, w->batch);
    }
    return 0;
}

/* True when the batch is ready to be written; false: an accelerator has it, and it is not ours any more. */
static bool encode(struct send_thread *t, struct batch *b, struct error *err) {
    struct pick pick;
    if (b->full.pages == 0 || !encode_choose(&t->encoder, b, &pick)) {
        return true;
    }
    if (offload(t->send, &pick, b)) {
        return false;
    }
    encode_batch(&t->encoder, &pick, b, err);
    return true;
}

/* With the lock, after the shelf was filled: puts it back, for the next one, before the batch is compressed. */
static void finish_batch(struct send_thread *t, struct batch *b, int64_t cpu, struct error *err) {
    struct ram_send *s = t->send;
    send_wake_next(s);
    pthread_mutex_unlock(&s->lock);
    bool ready = encode(t, b, err);
    pace(s, cpu);
    pthread_mutex_lock(&s->lock);
    if (ready) {
        put_ready(s, b);
    }
}

static void gather_job(struct send_thread *t) {
    struct ram_send *s = t->send;
    struct error err = { 0 };
    struct gathering w = { take_shelf(s), take_unused(s), false, s->number };
    s->gathering++;
    send_wake_next(s);
    pthread_mutex_unlock(&s->lock);
    int64_t cpu = clock_thread_cpu();
    int rc = fill_shelf(t, &w, &err);
    pthread_mutex_lock(&s->lock);
    if (w.shelf != NULL) {
        put_shelf(s, w.shelf);
    }
    if (rc == 0 && w.full) {
        finish_batch(t, w.batch, cpu, &err);
    } else if (w.batch != NULL) {
        put_unused(s, w.batch);
    }
    s->gathering--;
    if (error_is_set(&err)) {
        fail(s, &err);
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
    send_wake_next(s);
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
    send_wake_next(s);
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

void *send_run_thread(void *opaque) {
    struct send_thread *t = opaque;
    struct ram_send *s = t->send;
    char name[NAME_SIZE];
    snprintf(name, sizeof(name), "send %u", t->index);
    pthread_setname_np(pthread_self(), name);
    atomic_store(&t->tid, gettid());
    send_set_priority(t, atomic_load(&s->urgent));
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
