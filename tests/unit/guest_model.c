/* SPDX-License-Identifier: Apache-2.0 */
#include "guest_model.h"

#include "base/clock.h"
#include "policy/converge_json.h"

#include <math.h>

#define CELL ((double)MODEL_RAM / MODEL_CELLS)
#define TICK (5 * CLOCK_MS)
#define TICK_S 0.005
#define PASS_INTERVAL (20 * CLOCK_MS)
#define CHANGES_AFTER 2 /* passes */

struct model {
    const struct model_config *config;
    int64_t now;
    double share;                                      /* that the guest gets now */
    double dirty[MODEL_CELLS], untouched[MODEL_CELLS]; /* parts of a cell: marked, not written since the last scan */
    double stays[MODEL_CELLS];                         /* of `untouched` in a tick */
    double stays_share, stays_set;                     /* that `stays` was made for */
    double swept;                                      /* bytes: where the sweep is */
    int cursor;                                        /* the cell that the pass takes next */
    double reading, sent;                              /* bytes: of the cell before that wait, and of the pass */
    int64_t pass_at, scan_at;
    unsigned pass;
    struct converge_config converge;
    struct converge_state state;
    struct converge_decision decision;
    struct model_result result;
    double low;
};

static bool writes(const struct model *m) {
    const struct model_guest *g = &m->config->guest;
    double t = (double)m->now / 1e9;
    return g->off <= 0 || fmod(t, g->on + g->off) < g->on;
}

static double set_size(const struct model *m) {
    const struct model_guest *g = &m->config->guest;
    double size = g->set + g->growth * floor((double)m->now / 1e9);
    return size < (double)MODEL_RAM * 0.75 ? size : (double)MODEL_RAM * 0.75;
}

/* bytes/s that reach cell i when the guest has all of its time */
static double cell_rate(const struct model_guest *g, double set, int i) {
    double cells = set / CELL, part = fmin(fmax(cells - i, 0), 1);
    if (g->shape != MODEL_ZIPF) {
        return g->rate * part / cells;
    }
    double sum = log(cells) + 0.5772 + 0.5 / cells; /* of 1/1 .. 1/cells */
    return g->rate * part / (i + 1) / sum;
}

static void prepare(struct model *m) {
    const struct model_guest *g = &m->config->guest;
    double share = writes(m) ? m->share : 0, set = set_size(m);
    if (fabs(share - m->stays_share) < 1e-9 && fabs(set - m->stays_set) < 1) {
        return;
    }
    m->stays_share = share;
    m->stays_set = set;
    double beyond = g->rate > 0 ? g->unreached / g->rate : 0;
    for (int i = 0; i < MODEL_CELLS; i++) {
        m->stays[i] = exp(-cell_rate(g, set, i) * (share + beyond) * TICK_S / CELL);
    }
}

static void sweep(struct model *m) {
    double left = writes(m) ? m->config->guest.rate * m->share * TICK_S : 0;
    while (left > 0) {
        int i = (int)(m->swept / CELL);
        double here = fmin(left, (i + 1) * CELL - m->swept + 1);
        m->untouched[i] = fmax(m->untouched[i] - here / CELL, 0);
        m->swept += here;
        left -= here;
        if (m->swept >= m->config->guest.set) {
            m->swept = 0;
        }
    }
}

static void write_tick(struct model *m) {
    if (m->config->guest.shape == MODEL_SWEEP) {
        sweep(m);
        return;
    }
    prepare(m);
    for (int i = 0; i < MODEL_CELLS; i++) {
        m->untouched[i] *= m->stays[i];
    }
}

static double link_in(const struct model *m, unsigned pass) {
    return pass > CHANGES_AFTER && m->config->changes > 0 ? m->config->changes : m->config->link;
}

/* What fits through the link in a tick; true at the end of the pass. A cell is read as a whole when the pass gets
 * there: what is written then waits for the next one. */
static bool send_tick(struct model *m) {
    double left = link_in(m, m->pass) * TICK_S;
    while (left > 0 && (m->reading > 0 || m->cursor < MODEL_CELLS)) {
        if (m->reading <= 0) {
            m->reading = m->dirty[m->cursor] * CELL;
            m->dirty[m->cursor++] = 0;
        }
        double bytes = fmin(left, m->reading);
        m->reading -= bytes;
        m->sent += bytes;
        left -= bytes;
    }
    return m->reading <= 0 && m->cursor == MODEL_CELLS && m->now - m->pass_at >= PASS_INTERVAL;
}

static double remaining(const struct model *m) {
    double sum = m->reading;
    for (int i = 0; i < MODEL_CELLS; i++) {
        sum += m->dirty[i] * CELL;
    }
    return sum;
}

/* Bytes that it finds written. */
static double scan(struct model *m) {
    double found = 0, before = remaining(m);
    for (int i = 0; i < MODEL_CELLS; i++) {
        found += (1 - m->untouched[i]) * CELL;
        m->dirty[i] = 1 - (1 - m->dirty[i]) * m->untouched[i];
        m->untouched[i] = 1;
    }
    return m->config->only_new ? remaining(m) - before : found;
}

/* Takes the reference. */
static void write_line(struct model *m, const char *event, json_t *line) {
    json_object_set_new(line, "event", json_string(event));
    json_dumpf(line, m->config->trace, JSON_COMPACT | JSON_REAL_PRECISION(17));
    fputc('\n', m->config->trace);
    json_decref(line);
}

static void obey(struct model *m, unsigned before) {
    const struct converge_decision *d = &m->decision;
    m->result.changes += d->throttle != before;
    m->result.most_throttle = d->throttle > m->result.most_throttle ? d->throttle : m->result.most_throttle;
    double reached = m->config->guest.reached_at;
    m->share = (100 - d->throttle) / 100.0 * (d->throttle > 0 && reached > 0 ? reached : 1);
    if (d->offer_force && m->config->take_offer) {
        m->converge.force = true;
    }
}

static void step(struct model *m, bool pass_ended) {
    unsigned throttle = m->decision.throttle;
    double found = scan(m), link = link_in(m, pass_ended ? m->pass : m->pass - 1);
    struct converge_input in = {
        .now = m->now,
        .ram = MODEL_RAM,
        .remaining = (uint64_t)remaining(m),
        .wire_rate = m->config->link * m->config->ratio,
        .ratio = m->config->ratio * m->config->link / link,
        .dirty_rate = m->now > m->scan_at ? found / ((double)(m->now - m->scan_at) / 1e9) : -1,
        .dirty_interval = m->now - m->scan_at,
        .pass = m->pass,
        .pass_ended = pass_ended,
        .pass_sent = pass_ended ? (uint64_t)m->sent : 0,
        .pass_dirtied = pass_ended ? (uint64_t)remaining(m) : 0,
        .pass_time = pass_ended ? m->now - m->pass_at : 0,
        .throttle = throttle,
        .can_throttle = !m->config->cannot_throttle,
        .overhead = m->config->overhead,
    };
    m->scan_at = m->now;
    converge_step(&m->converge, &in, &m->state, &m->decision);
    if (m->config->trace != NULL) {
        write_line(m, "converge", converge_input_json(&in, &m->decision));
    }
    obey(m, throttle);
}

static void begin_pass(struct model *m) {
    m->pass++;
    m->pass_at = m->now;
    m->cursor = 0;
    m->sent = 0;
}

static void account(struct model *m) {
    m->result.lost += (1 - m->share) * TICK_S;
    m->low = m->decision.throttle > 90 ? m->low + TICK_S : 0;
    m->result.longest_low = fmax(m->result.longest_low, m->low);
}

static struct model_result finish(struct model *m) {
    struct model_result *r = &m->result;
    double limit = (double)m->converge.downtime_limit / 1e9;
    r->ended = m->decision.action != CONVERGE_GO_ON;
    r->action = m->decision.action;
    r->passes = m->pass;
    r->downtime = remaining(m) / link_in(m, m->pass) + (double)m->config->overhead / 1e9;
    r->total = (double)m->now / 1e9 + r->downtime;
    r->lost += fmax(r->downtime - limit, 0);
    return *r;
}

struct model_result model_run(const struct model_config *config) {
    struct model m = { .config = config, .share = 1, .stays_share = -1, .converge = config->converge };
    for (int i = 0; i < MODEL_CELLS; i++) {
        m.dirty[i] = m.untouched[i] = 1;
    }
    if (config->trace != NULL) {
        write_line(&m, "converge-config", converge_config_json(&config->converge));
    }
    begin_pass(&m);
    while (m.decision.action == CONVERGE_GO_ON && m.now < config->most) {
        write_tick(&m);
        bool ended = send_tick(&m);
        account(&m);
        m.now += TICK;
        if (ended || (config->sample > 0 && m.now - m.scan_at >= config->sample)) {
            step(&m, ended);
        }
        if (ended && m.decision.action == CONVERGE_GO_ON) {
            begin_pass(&m);
        }
    }
    return finish(&m);
}
