/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/internal.h"

#include "base/clock.h"

/* One call of accel_run(), on its stack. The one who ends it signals with the lock held: the caller, who destroys both,
 * cannot go on before that. */
struct call {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool over;
};

static void call_done(struct accel_job *job) {
    struct call *c = job->opaque;
    pthread_mutex_lock(&c->lock);
    c->over = true;
    pthread_cond_signal(&c->ended);
    pthread_mutex_unlock(&c->lock);
}

/* Whether a device has taken it. */
static bool submit(struct accel *a, struct accel_job *job, int64_t timeout_ns) {
    int64_t until = clock_now() + (timeout_ns < NEVER / 2 ? timeout_ns : NEVER / 2);
    int rc;
    while ((rc = accel_submit(a, job)) == 0) {
        /* Somebody else may have been quicker each time there was room: then it is the clock that ends this. */
        if (!submit_wait_room(a, job, until) || clock_now() > until) {
            break;
        }
    }
    return rc == 1;
}

int accel_run(struct accel *a, struct accel_job *job, int64_t timeout_ns) {
    struct call call = { .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER };
    void (*done)(struct accel_job *) = job->done;
    void *opaque = job->opaque;
    job->done = call_done;
    job->opaque = &call;
    bool taken = submit(a, job, timeout_ns);
    if (taken) {
        pthread_mutex_lock(&call.lock);
        while (!call.over) {
            pthread_cond_wait(&call.ended, &call.lock);
        }
        pthread_mutex_unlock(&call.lock);
    }
    pthread_cond_destroy(&call.ended);
    pthread_mutex_destroy(&call.lock);
    job->done = done;
    job->opaque = opaque;
    return taken ? 0 : -1;
}
