/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The card's engines. Which job is next is decided when the card has time for it, not when it arrives: then a client
 * with a long queue is not ahead of one with a short queue. The client that was served least is next.
 */
#include "card.h"

#include "base/clock.h"
#include "codec/codec.h"

#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A card that was held up by its host makes up for no more than this. */
#define MAX_DEBT (100 * CLOCK_MS)

static struct client *least_served(const struct card *card) {
    struct client *best = NULL;
    for (struct client *c = card->clients; c != NULL; c = c->next) {
        if (c->pending != NULL && (best == NULL || c->served < best->served)) {
            best = c;
        }
    }
    return best;
}

static struct job *take(struct client *c) {
    struct job *job = c->pending;
    c->pending = job->next;
    if (c->pending == NULL) {
        c->pending_tail = &c->pending;
    }
    job->next = NULL;
    return job;
}

/* What the card's time and fairness go by: uncompressed bytes, whichever way they go. */
static uint64_t work_of(const struct emulated_message *m) {
    return m->operation == EMULATED_INFLATE && m->out_size > m->size ? m->out_size : m->size;
}

/* Books the job on the card's time, and on the client's account. */
static void book(struct card *card, struct job *job, int64_t now) {
    if (card->busy_until < now - MAX_DEBT) {
        card->busy_until = now - MAX_DEBT;
    }
    if (card->options.rate > 0) {
        int64_t ns = (int64_t)((double)work_of(&job->request) * (double)CLOCK_S / (double)card->options.rate);
        card->busy_until += ns;
        card->busy_ns += ns;
        job->due = card->busy_until + card->options.latency_ns;
    } else {
        job->due = now + card->options.latency_ns;
    }
    card->served = job->client->served;
    job->client->served += work_of(&job->request);
    job->client->busy++;
}

/* With the lock held: waits until there is a job and time for it; NULL at the end. */
static struct job *next_job(struct card *card) {
    for (;;) {
        if (card->stopping) {
            return NULL;
        }
        struct client *c = least_served(card);
        int64_t now = clock_now();
        if (c == NULL) {
            pthread_cond_wait(&card->work, &card->lock);
        } else if (card->options.rate > 0 && card->busy_until > now) {
            struct timespec t = { card->busy_until / CLOCK_S, card->busy_until % CLOCK_S };
            pthread_cond_timedwait(&card->work, &card->lock, &t);
        } else if (fault_hits(card->options.fault, EMULATED_HANG, c->pending->number)) {
            card->faults_done++;
            free(take(c)); /* its place in the queue stays taken */
        } else {
            struct job *job = take(c);
            book(card, job, now);
            return job;
        }
    }
}

static enum emulated_status compress(const struct job *job, uint8_t *level_buffer, size_t *size) {
    struct isal_zstream s;
    isal_deflate_stateless_init(&s);
    s.next_in = job->client->in.base + job->request.offset;
    s.avail_in = (uint32_t)job->request.size;
    s.next_out = job->client->out.base + job->request.out_offset;
    s.avail_out = (uint32_t)job->request.out_size;
    s.end_of_stream = 1;
    s.level = 1;
    s.level_buf = level_buffer;
    s.level_buf_size = ISAL_DEF_LVL1_DEFAULT;
    bool fits = isal_deflate_stateless(&s) == COMP_OK;
    *size = fits ? s.total_out : 0;
    return fits ? EMULATED_OK : EMULATED_TOO_BIG;
}

/* Any number of streams, one behind the other. How much must come out the card does not know, as real ones do not. */
static enum emulated_status decompress(const struct job *job, size_t *size) {
    struct inflate_state s;
    isal_inflate_init(&s);
    s.next_in = job->client->in.base + job->request.offset;
    s.avail_in = (uint32_t)job->request.size;
    s.next_out = job->client->out.base + job->request.out_offset;
    s.avail_out = (uint32_t)job->request.out_size;
    while (s.avail_in > 0) {
        uint32_t before = s.avail_in;
        int rc = isal_inflate_stateless(&s);
        if (rc == ISAL_OUT_OVERFLOW) {
            return EMULATED_TOO_BIG;
        }
        if (rc != ISAL_DECOMP_OK || s.block_state != ISAL_BLOCK_FINISH || s.avail_in >= before) {
            return EMULATED_FAILED;
        }
    }
    *size = (size_t)job->request.out_size - s.avail_out;
    return EMULATED_OK;
}

static void spoil(struct card *card, struct job *job) {
    const struct fault *plan = card->options.fault;
    struct emulated_message *m = &job->answer;
    uint64_t n = job->number;
    if (fault_hits(plan, EMULATED_GARBAGE, n)) {
        for (uint64_t i = 0; i < m->size; i += 16) {
            job->client->out.base[job->request.out_offset + i] ^= 0x5a;
        }
        card->faults_done++;
    }
    if (fault_hits(plan, EMULATED_ERROR, n)) {
        m->status = EMULATED_FAILED;
        card->faults_done++;
    }
    if (fault_hits(plan, EMULATED_OVERSIZE, n)) {
        m->size = job->request.out_size + 4096;
        card->faults_done++;
    }
    if (fault_hits(plan, EMULATED_RESET, n)) {
        client_drop(card, job->client);
        card->faults_done++;
    }
}

static void run(struct card *card, struct job *job, uint8_t *level_buffer) {
    int64_t begin = clock_now();
    size_t n = 0;
    enum emulated_status status =
        job->request.operation == EMULATED_INFLATE ? decompress(job, &n) : compress(job, level_buffer, &n);
    int64_t took = clock_now() - begin;
    job->answer = (struct emulated_message){ .kind = EMULATED_COMPLETE,
                                             .slot = job->request.slot,
                                             .serial = job->request.serial,
                                             .status = status,
                                             .codec = CODEC_DEFLATE,
                                             .size = n };
    pthread_mutex_lock(&card->lock);
    if (card->options.rate == 0) {
        card->busy_ns += took;
    }
    spoil(card, job);
    struct job **at = &card->done;
    while (*at != NULL && (*at)->due <= job->due) {
        at = &(*at)->next;
    }
    job->next = *at;
    *at = job;
    uint64_t one = 1;
    if (write(card->wake_fd, &one, sizeof(one)) < 0) {
        /* full: it is awake */
    }
}

void *card_worker(void *opaque) {
    struct card *card = opaque;
    uint8_t *level_buffer = malloc(ISAL_DEF_LVL1_DEFAULT);
    pthread_mutex_lock(&card->lock);
    for (struct job *job; level_buffer != NULL && (job = next_job(card)) != NULL;) {
        card->busy_workers++;
        pthread_mutex_unlock(&card->lock);
        run(card, job, level_buffer); /* comes back with the lock */
        card->busy_workers--;
    }
    pthread_mutex_unlock(&card->lock);
    free(level_buffer);
    return NULL;
}
