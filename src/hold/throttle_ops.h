/* SPDX-License-Identifier: Apache-2.0 */
/* Between throttle.c and its actuators; for nobody else. */
#ifndef GODWIT_HOLD_THROTTLE_OPS_H
#define GODWIT_HOLD_THROTTLE_OPS_H

#include "hold/throttle.h"

struct throttle {
    const struct throttle_ops *ops;
    struct throttle_config config;
    char *root;     /* what config.root points to */
    pid_t *threads; /* no thread twice */
    size_t count;
    unsigned percent; /* in force; 0 after a failure */
    void *state;      /* the actuator's own */
};

/* One actuator. All calls come from the caller's thread. */
struct throttle_ops {
    enum throttle_kind kind;
    /* May set t->state, which close() frees; close() is called even when open failed. Changes nothing in the threads.
     */
    int (*open)(struct throttle *t, struct error *err);
    /* 0 < percent <= THROTTLE_MOST. After a failure no thread is held. */
    int (*hold)(struct throttle *t, unsigned percent, struct error *err);
    /* No thread is held when it returns, also when it fails: then something else could not be put back. More than once
     * is allowed. */
    int (*release)(struct throttle *t, struct error *err);
    /* Called while t->percent is not 0. After a failure no thread is held. */
    int (*check)(struct throttle *t, struct error *err);
    /* NULL: it minds nothing. */
    void (*mind)(struct throttle *t, int64_t attention);
    int64_t (*held_ns)(struct throttle *t);
    /* After release(). */
    void (*close)(struct throttle *t);
};

extern const struct throttle_ops throttle_duty_ops, throttle_quota_ops;

#endif
