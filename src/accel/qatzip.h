/* SPDX-License-Identifier: Apache-2.0 */
/* What the two directions of QATzip share. Only where meson found QATzip. */
#ifndef GODWIT_ACCEL_QATZIP_H
#define GODWIT_ACCEL_QATZIP_H

#include "accel/unit.h"

#include <pthread.h>
#include <qatzip.h>
#include <string.h>

#define LEVEL_NONE 0

struct qz;

/* One job, in the hands of QATzip or waiting. Its place is never used for another one before it was answered. */
struct qz_request {
    struct qz_request *next;
    struct qz *qz;
    enum accel_work work;
    QzResult_T result;
    const uint8_t *in;
    uint8_t *out;
    uint32_t slot, serial;
    unsigned instance;
    int level;
    size_t capacity;
};

struct qz_session {
    QzSession_T session;
    int level; /* that it was set up with; LEVEL_NONE: it was not */
    unsigned busy;
};

/* A thread of ours that decompresses, for one instance; from its first job on. */
struct qz_inflater {
    struct qz *qz;
    unsigned instance;
    pthread_t thread;
    bool started;
    QzSession_T session; /* the thread's */
    bool set_up;
};

/* `lock` guards the lists, `busy` and the flags; it is taken inside the accel's lock, or alone. */
struct qz {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t feeder;
    int fd;
    unsigned instances;
    bool retired, ready, failed, software, ended;
    struct error error; /* with failed */
    struct qz_session *session;
    struct qz_inflater *inflater;
    unsigned inflating;                     /* threads of inflaters */
    unsigned inflate_buffer;                /* for which their sessions are set up; constant from the first job on */
    struct qz_request *queue, **queue_tail; /* submitted, to be compressed */
    struct qz_request *inflate, **inflate_tail; /* submitted, to be decompressed */
    struct qz_request *done, **done_tail;       /* answered */
    struct qz_request *request;                 /* one for each slot */
};

static inline void qz_push(struct qz_request ***tail, struct qz_request *r) {
    r->next = NULL;
    **tail = r;
    *tail = &r->next;
}

/* What qzInit() and qzSetupSession*() say. Above zero: it works, in software, for the reason that the number tells. */
static inline bool qz_is_set_up(int rc) {
    return rc >= QZ_OK && rc != QZ_NONE;
}

/* qatzip_state.c */
/* NULL without memory or a descriptor. */
struct qz *qz_new(unsigned instances);
/* After all threads have ended. */
void qz_free(struct qz *q);
/* Its descriptor becomes readable. */
void qz_tell(struct qz *q);
/* The request is answered. Takes the lock. */
void qz_finish(struct qz_request *r, int status);
/* The size of the device's buffers in this process: what the first who asks says (see qatzip_inflate.c). */
unsigned qz_buffers_are(unsigned size);
/* The same, or 0: nobody has asked yet. */
unsigned qz_buffers(void);

/* qatzip_inflate.c */
/* The largest result that hardware can decompress to, where jobs are up to `max_job`. */
size_t qz_inflate_most(size_t max_job);
/* As accel_ops.submit; takes the lock. */
int qz_inflate_submit(struct qz *q, struct qz_request *r, size_t max_job, struct error *err);
/* Frees what is the inflater's, whose thread ends when q->retired is set, and is not in q->inflating any more. */
void qz_inflater_join(struct qz_inflater *f);

#endif
