/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QAT devices through QATzip 1.3: an instance is a QATzip session, which takes a hardware instance of its own, or works
 * in software on a thread of its own where there is none.
 *
 * All calls that compress come from one thread of ours for each unit, the feeder, because qzInit() and
 * qzTeardownSession() wait for the hardware, and because the asynchronous half of a session is torn down by QATzip when
 * the thread that used it first ends. Decompression has threads and sessions of its own: qatzip_inflate.c.
 *
 * Without hardware QATzip 1.3.1 looks for it again at each job, and takes a pthread key each time that it never gives
 * back. So software is used when somebody asks for it (accel_config.allow_software), which means: by tests.
 *
 *   submit ──queue──► feeder ──qzCompress2──► QATzip's thread ──answered()──► done list ──fd──► reap
 *
 * What a session with QZ_DEFLATE_RAW emits for a job of any size is one raw deflate stream: the library cuts the job
 * into pieces of hw_buff_sz, ends each with a full flush and the last with the final block. Any inflate reads it.
 */
#include "accel/qatzip.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <time.h>

/* Jobs that a session is given at a time. Hardware works on 32 pieces side by side; software on one job. */
#define DEPTH_HARDWARE 16
#define DEPTH_SOFTWARE 4

/* QATzip's callback, on a thread of its own. */
static int answered(QzResult_T *result) {
    qz_finish(result->cb_tag, result->status);
    return 0;
}

/* 0, or QATzip's number. */
static int set_up(struct qz_session *s, int level) {
    if (s->level == level) {
        return 0;
    }
    if (s->level != LEVEL_NONE) {
        qzTeardownSession(&s->session);
        s->level = LEVEL_NONE;
    }
    QzSessionParamsDeflate_T params;
    int rc = qzGetDefaultsDeflate(&params);
    if (rc != QZ_OK) {
        return rc;
    }
    params.data_fmt = QZ_DEFLATE_RAW;
    params.common_params.direction = QZ_DIR_COMPRESS;
    params.common_params.hw_buff_sz = QZ_HW_BUFF_SZ;
    params.common_params.comp_lvl = (unsigned)level;
    params.common_params.sw_backup = 1;
    rc = qzSetupSessionDeflate(&s->session, &params);
    if (!qz_is_set_up(rc)) {
        return rc;
    }
    s->level = level;
    return 0;
}

static int clamp_level(int level) {
    return level < QZ_DEFLATE_COMP_LVL_MINIMUM   ? QZ_DEFLATE_COMP_LVL_MINIMUM
           : level > QZ_DEFLATE_COMP_LVL_MAXIMUM ? QZ_DEFLATE_COMP_LVL_MAXIMUM
                                                 : level;
}

/* On the feeder: all sessions, or the number of the first that could not be had. */
static int open_sessions(struct qz *q) {
    qzSetLogLevel(LOG_NONE); /* what concerns us comes back as a number */
    for (unsigned i = 0; i < q->instances; i++) {
        struct qz_session *s = &q->session[i];
        int rc = qzInit(&s->session, 1);
        if (qz_is_set_up(rc)) {
            rc = set_up(s, QZ_COMP_LEVEL_DEFAULT);
        }
        if (!qz_is_set_up(rc)) {
            return rc;
        }
        q->software |= s->session.hw_session_stat != QZ_OK;
    }
    return 0;
}

/* With the lock: the next job whose session has no job of another level in work, or NULL at the end. A session has one
 * level, so a change of level waits until the session is idle. */
static struct qz_request *next_request(struct qz *q) {
    for (;;) {
        if (q->retired) {
            return NULL;
        }
        for (struct qz_request **at = &q->queue; *at != NULL; at = &(*at)->next) {
            struct qz_request *r = *at;
            struct qz_session *s = &q->session[r->instance];
            if (s->level == r->level || s->busy == 0) {
                *at = r->next;
                if (q->queue_tail == &r->next) {
                    q->queue_tail = at;
                }
                s->busy++;
                return r;
            }
        }
        pthread_cond_wait(&q->changed, &q->lock);
    }
}

static void give(struct qz *q, struct qz_request *r) {
    struct qz_session *s = &q->session[r->instance];
    int rc = set_up(s, r->level);
    if (rc == QZ_OK) {
        rc = qzCompress2(&s->session, r->in, r->out, answered, &r->result);
    }
    if (rc != QZ_OK) {
        qz_finish(r, rc);
    }
}

/* QATzip frees a session's state under the hands of the thread that works with it, so everything that it was given must
 * have been answered. A device that hangs keeps this thread for ever: see qatzip_finish(). */
static void wait_for_answers(struct qz *q) {
    for (unsigned i = 0; i < q->instances; i++) {
        while (q->session[i].busy > 0) {
            pthread_cond_wait(&q->changed, &q->lock);
        }
    }
    while (q->inflating > 0) {
        pthread_cond_wait(&q->changed, &q->lock);
    }
}

static void close_sessions(struct qz *q) {
    for (unsigned i = 0; i < q->instances; i++) {
        if (q->session[i].level != LEVEL_NONE) {
            qzTeardownSession(&q->session[i].session);
        }
    }
}

static void *feed(void *opaque) {
    struct qz *q = opaque;
    int rc = open_sessions(q);
    pthread_mutex_lock(&q->lock);
    q->failed = rc != 0;
    q->ready = rc == 0;
    if (rc != 0) {
        error_set(&q->error, ERROR_SYSTEM, "QATzip cannot set up a session (%d)", rc);
    }
    qz_tell(q);
    for (struct qz_request *r; (r = next_request(q)) != NULL;) {
        pthread_mutex_unlock(&q->lock);
        give(q, r);
        pthread_mutex_lock(&q->lock);
    }
    wait_for_answers(q);
    pthread_mutex_unlock(&q->lock);
    close_sessions(q);
    for (unsigned i = 0; i < q->instances; i++) {
        qz_inflater_join(&q->inflater[i]);
    }
    pthread_mutex_lock(&q->lock);
    q->ended = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

static int qatzip_start(struct accel_unit *unit, const char *path, struct error *err) {
    (void)path;
    struct qz *q = qz_new(unit->instances);
    if (q == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory");
    }
    errno = pthread_create(&q->feeder, NULL, feed, q);
    if (errno != 0) {
        qz_free(q);
        return error_errno(err, ERROR_SYSTEM, "a thread for QATzip");
    }
    unit->state = q;
    unit->fd = q->fd;
    return 0;
}

static int become_ready(struct accel_unit *unit, struct qz *q, struct error *err) {
    bool software = q->software;
    if (unit_ready(unit, q->instances, software ? DEPTH_SOFTWARE : DEPTH_HARDWARE, software, err) != 0) {
        return -1;
    }
    q->request = calloc(unit->slots, sizeof(*q->request));
    return q->request != NULL ? 0 : error_set(err, ERROR_SYSTEM, "no memory");
}

/* What QATzip says about a job, in our words. */
static struct accel_result result_of(const struct qz_request *r) {
    struct accel_result a = {
        .slot = r->slot, .serial = r->serial, .codec = CODEC_DEFLATE, .size = r->result.dest_len, .status = ACCEL_OK
    };
    if (r->result.status != QZ_OK) {
        a.status = r->result.status == QZ_BUF_ERROR ? ACCEL_TOO_BIG : ACCEL_FAILED;
    } else if (r->result.dest_len > r->capacity) {
        a.status = ACCEL_TOO_BIG;
    }
    return a;
}

static int qatzip_reap(struct accel_unit *unit, struct error *err) {
    struct qz *q = unit->state;
    LOCK_GUARD(&q->lock);
    eventfd_t ignored;
    eventfd_read(q->fd, &ignored);
    if (q->failed) {
        *err = q->error;
        return -1;
    }
    if (q->ready && !unit->ready && become_ready(unit, q, err) != 0) {
        return -1;
    }
    while (q->done != NULL) {
        struct qz_request *r = q->done;
        q->done = r->next;
        if (q->done == NULL) {
            q->done_tail = &q->done;
        }
        struct accel_result result = result_of(r);
        if (unit_result(unit, &result, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static bool qatzip_takes(const struct accel_unit *unit, const struct accel_job *job) {
    const struct qz *q = unit->state;
    return job->work == ACCEL_COMPRESS || q->software || job->capacity <= qz_inflate_most(unit->ground->max_job);
}

static int qatzip_submit(struct accel_unit *unit, const struct accel_slot *slot, struct error *err) {
    struct qz *q = unit->state;
    struct qz_request *r = &q->request[slot->index];
    const struct accel_job *job = slot->job;
    *r = (struct qz_request){ .qz = q,
                              .work = slot->work,
                              .in = job->in,
                              .out = slot_output(slot),
                              .slot = slot->index,
                              .serial = slot->serial,
                              .instance = slot->instance,
                              .level = clamp_level(job->level),
                              .capacity = slot->capacity };
    /* All the room of the slot, not the capacity: when QATzip's software runs out of room it leaks its state. */
    r->result =
        (QzResult_T){ .cb_tag = r, .src_len = (unsigned)job->size, .dest_len = (unsigned)unit->ground->slot_size };
    if (r->work == ACCEL_DECOMPRESS) {
        return qz_inflate_submit(q, r, unit->ground->max_job, err);
    }
    qz_buffers_are(QZ_HW_BUFF_SZ);
    LOCK_GUARD(&q->lock);
    qz_push(&q->queue_tail, r);
    pthread_cond_broadcast(&q->changed);
    return 1;
}

static void qatzip_retire(struct accel_unit *unit) {
    struct qz *q = unit->state;
    LOCK_GUARD(&q->lock);
    q->retired = true;
    pthread_cond_broadcast(&q->changed);
}

/* A session whose device hangs cannot be torn down. What it uses is left behind, and the feeder with it. */
static bool qatzip_finish(struct accel_unit *unit, int64_t until) {
    struct qz *q = unit->state;
    struct timespec t = { .tv_sec = until / CLOCK_S, .tv_nsec = until % CLOCK_S };
    pthread_mutex_lock(&q->lock);
    while (!q->ended && pthread_cond_timedwait(&q->changed, &q->lock, &t) == 0) {
    }
    bool ended = q->ended;
    pthread_mutex_unlock(&q->lock);
    if (!ended) {
        pthread_detach(q->feeder);
        return false;
    }
    pthread_join(q->feeder, NULL);
    qz_free(q);
    return true;
}

const struct accel_ops accel_qatzip = {
    .kind = "qat",
    .has_path = false,
    .start = qatzip_start,
    .takes = qatzip_takes,
    .submit = qatzip_submit,
    .reap = qatzip_reap,
    .retire = qatzip_retire,
    .finish = qatzip_finish,
};
