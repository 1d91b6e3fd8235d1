/* SPDX-License-Identifier: Apache-2.0 */
#include "host/pace.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <time.h>

#define WINDOW_NS (100 * CLOCK_MS)
#define NS_PER_PERCENT (CLOCK_S / 100) /* CPU ns a second */

/* Call with the lock held. */
static void apply(struct cpu_pace *p) {
    limit_set(&p->limit, p->lifted ? 0 : p->percent * (uint64_t)NS_PER_PERCENT);
}

void cpu_pace_init(struct cpu_pace *p, unsigned percent) {
    *p = (struct cpu_pace){ .percent = percent, .limit.burst = WINDOW_NS };
    pthread_mutex_init(&p->lock, NULL);
    apply(p);
}

void cpu_pace_destroy(struct cpu_pace *p) {
    pthread_mutex_destroy(&p->lock);
}

void cpu_pace_set(struct cpu_pace *p, unsigned percent) {
    LOCK_GUARD(&p->lock);
    if (p->percent != percent) {
        p->percent = percent;
        apply(p);
    }
}

void cpu_pace_lift(struct cpu_pace *p, bool lifted) {
    LOCK_GUARD(&p->lock);
    if (p->lifted != lifted) {
        p->lifted = lifted;
        apply(p);
    }
}

void cpu_pace_end(struct cpu_pace *p) {
    limit_lift(&p->limit);
}

void cpu_pace(struct cpu_pace *p, int64_t used_ns) {
    if (used_ns > 0) {
        limit_wait(&p->limit, (uint64_t)used_ns);
    }
}
