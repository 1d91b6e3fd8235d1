/* SPDX-License-Identifier: Apache-2.0 */
/* What the link carries: learned from what the connections took, window by window. */
#include "ram/choice_internal.h"

#include "base/cleanup.h"

/* A window ends when it is long enough for what it has: a write counts when it ends, so few of them say little. */
static const struct {
    int64_t ns;
    unsigned writes;
} window_ends[] = { { 15000000, 32 }, { 60000000, 8 }, { 240000000, 1 } };

#define SATURATED 0.1 /* part of the channels' time in which they took nothing: their queues were full */
#define PEER_FULL 0.7 /* part of the time in which the destination is busy by what it says */
#define LINK_WEIGHT 0.5
#define STRETCH_WEIGHT 0.3
#define LINK_GROWTH_MOST 0.5
#define LEAST_LINK_NS 0.01
#define FIRST_HOLD 8 /* windows */
#define MOST_HOLD 100

/* The channels had to wait: this is what the link carries. */
static void learn_full(struct choice *c, double ns) {
    bool probed = ns > 1.3 * c->link_ns;
    bool nothing_new = ns > 0.8 * c->full_ns && ns < 1.25 * c->full_ns;
    if (!nothing_new) {
        c->hold = 0;
    } else if (probed) {
        c->hold = c->hold < MOST_HOLD / 2 ? 2 * c->hold + FIRST_HOLD : MOST_HOLD;
    }
    c->held = 0;
    c->growth = CHOICE_LINK_GROWTH;
    c->full_ns = ns;
    choice_mean(&c->link_ns, ns, probed ? 1.0 : LINK_WEIGHT);
}

/* Nobody waited for the link: it carries that much, perhaps more. */
static void learn_free(struct choice *c, double ns) {
    c->link_ns = ns < c->link_ns ? ns : c->link_ns;
    if (c->held++ < c->hold) {
        return;
    }
    c->link_ns = c->link_ns * c->growth > LEAST_LINK_NS ? c->link_ns * c->growth : LEAST_LINK_NS;
    c->growth = c->growth * c->growth > LINK_GROWTH_MOST ? c->growth * c->growth : LINK_GROWTH_MOST;
}

/* The window is over: what it says of the link. */
static void learn_link(struct choice *c, int64_t elapsed) {
    const struct choice_window *w = &c->window;
    double ns = (double)elapsed / (double)w->bytes;
    double raw_ns = w->raw > 0 ? (double)elapsed / (double)w->raw : ns;
    bool blocked = (double)w->blocked > SATURATED * (double)elapsed * c->channels;
    /* Perhaps it is not the link that takes no more but a destination that can't place as fast. */
    bool peer_full = choice_peer_time(c) > PEER_FULL * raw_ns;
    c->full = blocked && !peer_full;
    if (w->cpu > 0) {
        double stretch = (double)w->wall / (double)w->cpu;
        choice_mean(&c->stretch, stretch > 1 ? stretch : 1, STRETCH_WEIGHT);
    }
    if (c->full) {
        learn_full(c, ns);
    } else {
        learn_free(c, ns);
    }
    choice_find_best(c);
}

static bool window_has_ended(const struct choice_window *w, int64_t elapsed) {
    for (size_t i = 0; i < sizeof(window_ends) / sizeof(window_ends[0]); i++) {
        if (elapsed >= window_ends[i].ns && w->writes >= window_ends[i].writes) {
            return true;
        }
    }
    return false;
}

void choice_written(struct choice *c, size_t raw, size_t bytes, int64_t cpu, int64_t blocked_ns, int64_t now) {
    LOCK_GUARD(&c->lock);
    struct choice_window *w = &c->window;
    choice_mean(&c->write_ns, (double)cpu / (double)bytes, CHOICE_WEIGHT);
    w->bytes += bytes;
    w->raw += raw;
    w->blocked += blocked_ns;
    w->writes++;
    int64_t elapsed = now - w->begin;
    if (window_has_ended(w, elapsed)) {
        learn_link(c, elapsed);
        *w = (struct choice_window){ .begin = now };
    }
}

void choice_resume(struct choice *c, int64_t now) {
    LOCK_GUARD(&c->lock);
    c->window = (struct choice_window){ .begin = now };
}

bool choice_link_bound(struct choice *c) {
    LOCK_GUARD(&c->lock);
    return c->full;
}

double choice_link_rate(struct choice *c) {
    LOCK_GUARD(&c->lock);
    return 1e9 / c->link_ns;
}
