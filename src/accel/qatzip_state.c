/* SPDX-License-Identifier: Apache-2.0 */
/* What both directions of QATzip stand on: a unit's lists of jobs, and what belongs to the process. */
#include "accel/qatzip.h"

#include "base/cleanup.h"

#include <stdatomic.h>
#include <sys/eventfd.h>

/* The one thing of ours that belongs to the process: because what it describes does. 0: nobody was there yet. */
static _Atomic unsigned buffers;

unsigned qz_buffers_are(unsigned size) {
    unsigned nobody = 0;
    return atomic_compare_exchange_strong(&buffers, &nobody, size) ? size : nobody;
}

unsigned qz_buffers(void) {
    return atomic_load(&buffers);
}

void qz_free(struct qz *q) {
    if (q->fd >= 0) {
        close(q->fd);
    }
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
    free(q->session);
    free(q->inflater);
    free(q->request);
    free(q);
}

struct qz *qz_new(unsigned instances) {
    struct qz *q = calloc(1, sizeof(*q));
    if (q == NULL) {
        return NULL;
    }
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&q->changed, &attr);
    pthread_condattr_destroy(&attr);
    q->queue_tail = &q->queue;
    q->inflate_tail = &q->inflate;
    q->done_tail = &q->done;
    q->instances = instances;
    q->session = calloc(instances, sizeof(*q->session));
    q->inflater = calloc(instances, sizeof(*q->inflater));
    q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->session == NULL || q->inflater == NULL || q->fd < 0) {
        qz_free(q);
        return NULL;
    }
    for (unsigned i = 0; i < instances; i++) {
        q->inflater[i] = (struct qz_inflater){ .qz = q, .instance = i };
    }
    return q;
}

void qz_tell(struct qz *q) {
    eventfd_write(q->fd, 1);
}

void qz_finish(struct qz_request *r, int status) {
    struct qz *q = r->qz;
    LOCK_GUARD(&q->lock);
    r->result.status = status;
    if (r->work == ACCEL_COMPRESS) {
        q->session[r->instance].busy--;
    }
    qz_push(&q->done_tail, r);
    pthread_cond_broadcast(&q->changed);
    qz_tell(q);
}
