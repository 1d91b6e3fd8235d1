/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompression by QATzip: one call of qzDecompress() at a time, on a thread of ours for each instance.
 *
 * Not the asynchronous qzDecompress2(), because of what was read and seen in 1.3.1:
 *
 *  - A payload that is damaged spoils its session. The software inflates with one zlib state for each session, which
 *    stays in its error state, or in the middle of a stream that ended too early, and the next job goes on from there.
 *    So a session must be idle when a payload turns out to be bad, and is set up anew then; jobs that were queued
 * behind the bad one would fail with it.
 *  - When an asynchronous job fails while it is being submitted, it is freed while the polling thread may still know
 * it.
 *
 * A job is one piece to the hardware, since nothing in a raw deflate stream says where it could be cut, so the device's
 * buffers must be as large as the result. These buffers are QATzip's for the whole process: an instance gets them when
 * it is used first, of the size that this session has, and later ones are copied into them without a look at their
 * size. So a session must not have larger ones than the process's first; who is first, says it (qz_buffers_are()). The
 * destination of a migration only decompresses and gets what it wants. What is too large is not taken.
 */
#include "accel/qatzip.h"

#include "base/cleanup.h"

#include <errno.h>

/* A power of two, as QATzip wants it. */
static unsigned wanted(size_t max_job) {
    unsigned size = QZ_HW_BUFF_SZ;
    while (size < QZ_HW_BUFF_MAX_SZ && size < max_job) {
        size *= 2;
    }
    return size;
}

size_t qz_inflate_most(size_t max_job) {
    unsigned size = qz_buffers();
    return size != 0 ? size : wanted(max_job);
}

static int set_up(struct qz_inflater *f) {
    QzSessionParamsDeflateExt_T params; /* the other kind of session does not tell where a stream ends */
    QzSessionParamsDeflate_T *deflate = &params.deflate_params;
    int rc = qzInit(&f->session, 1);
    if (qz_is_set_up(rc)) {
        rc = qzGetDefaultsDeflateExt(&params);
    }
    if (!qz_is_set_up(rc)) {
        return rc;
    }
    params.zlib_format = 0;
    params.stop_decompression_stream_end = 0;
    deflate->data_fmt = QZ_DEFLATE_RAW;
    deflate->common_params.direction = QZ_DIR_DECOMPRESS;
    deflate->common_params.hw_buff_sz = f->qz->inflate_buffer;
    /* Payloads below this go through its software: so little that nobody will notice. */
    deflate->common_params.input_sz_thrshold = QZ_COMP_THRESHOLD_MINIMUM;
    deflate->common_params.sw_backup = 1;
    rc = qzSetupSessionDeflateExt(&f->session, &params);
    f->set_up = qz_is_set_up(rc);
    return f->set_up ? QZ_OK : rc;
}

static void tear_down(struct qz_inflater *f) {
    if (f->set_up) {
        qzTeardownSession(&f->session);
        f->set_up = false;
    }
}

/* Whether the software is done with the stream: hardware has no state that lasts longer than a job. */
static bool at_the_end(struct qz_inflater *f) {
    unsigned char end = 0;
    return !f->qz->software || (qzGetDeflateEndOfStream(&f->session, &end) == QZ_OK && end == 1);
}

/* QZ_OK, or the number of what went wrong. */
static int inflate_one(struct qz_inflater *f, struct qz_request *r) {
    int rc = f->set_up ? QZ_OK : set_up(f);
    if (rc != QZ_OK) {
        return rc;
    }
    unsigned size = r->result.src_len, in = size, out = (unsigned)r->capacity;
    rc = qzDecompress(&f->session, r->in, &in, r->out, &out);
    bool whole = rc == QZ_OK && out == r->capacity && (in == size || !f->qz->software) && at_the_end(f);
    r->result.dest_len = out;
    if (!whole) {
        tear_down(f);
    }
    return whole ? QZ_OK : rc != QZ_OK ? rc : QZ_DATA_ERROR;
}

/* With the lock: the next job of this instance, or NULL at the end. */
static struct qz_request *next_request(struct qz_inflater *f) {
    struct qz *q = f->qz;
    for (; !q->retired; pthread_cond_wait(&q->changed, &q->lock)) {
        for (struct qz_request **at = &q->inflate; *at != NULL; at = &(*at)->next) {
            struct qz_request *r = *at;
            if (r->instance == f->instance) {
                *at = r->next;
                if (q->inflate_tail == &r->next) {
                    q->inflate_tail = at;
                }
                return r;
            }
        }
    }
    return NULL;
}

static void *inflater(void *opaque) {
    struct qz_inflater *f = opaque;
    struct qz *q = f->qz;
    pthread_mutex_lock(&q->lock);
    for (struct qz_request *r; (r = next_request(f)) != NULL;) {
        pthread_mutex_unlock(&q->lock);
        qz_finish(r, inflate_one(f, r));
        pthread_mutex_lock(&q->lock);
    }
    pthread_mutex_unlock(&q->lock);
    tear_down(f);
    pthread_mutex_lock(&q->lock);
    q->inflating--;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

int qz_inflate_submit(struct qz *q, struct qz_request *r, size_t max_job, struct error *err) {
    struct qz_inflater *f = &q->inflater[r->instance];
    LOCK_GUARD(&q->lock);
    if (q->inflate_buffer == 0) {
        q->inflate_buffer = qz_buffers_are(wanted(max_job));
    }
    if (!f->started) {
        errno = pthread_create(&f->thread, NULL, inflater, f);
        if (errno != 0) {
            return error_errno(err, ERROR_SYSTEM, "a thread for QATzip");
        }
        f->started = true;
        q->inflating++;
    }
    qz_push(&q->inflate_tail, r);
    pthread_cond_broadcast(&q->changed);
    return 1;
}

void qz_inflater_join(struct qz_inflater *f) {
    if (f->started) {
        pthread_join(f->thread, NULL);
    }
}
