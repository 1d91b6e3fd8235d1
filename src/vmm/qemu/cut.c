/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/cut.h"

#include <string.h>

static void hand_on(struct cut *c, const uint8_t *data, size_t size) {
    if (size == 0 || c->broken) {
        return;
    }
    if (c->sink->take(c->sink->opaque, data, size, c->err) < 0) {
        c->broken = true;
        return;
    }
    c->out += size;
}

/* The next run begins where the cut stands. */
static void hand_on_run(struct cut *c) {
    hand_on(c, c->run, (size_t)(c->at - c->run));
    c->run = c->at;
}

static size_t left(const struct cut *c) {
    return (size_t)(c->end - c->at);
}

void cut_begin(struct cut *c, const uint8_t *data, size_t size, const struct vmm_sink *sink, struct error *err) {
    c->sink = sink;
    c->err = err;
    c->run = c->at = data;
    c->end = data + size;
}

int cut_end(struct cut *c) {
    hand_on_run(c);
    return c->broken ? -1 : 0;
}

void cut_fail(struct cut *c) {
    c->broken = true;
}

const uint8_t *cut_look(struct cut *c, size_t size) {
    if (c->broken || size > CUT_MOST) {
        return NULL;
    }
    if (c->held == 0 && left(c) >= size) {
        return c->at;
    }
    if (c->held < size) {
        size_t n = size - c->held < left(c) ? size - c->held : left(c);
        hand_on_run(c);
        if (n > 0) {
            memcpy(c->hold + c->held, c->at, n);
        }
        c->held += n;
        c->at += n;
        c->run = c->at;
    }
    return c->held >= size && !c->broken ? c->hold : NULL;
}

void cut_pass(struct cut *c, size_t size) {
    if (c->held > 0) {
        hand_on(c, c->hold, c->held);
        c->held = 0;
    } else {
        c->at += size;
    }
}

void cut_skip(struct cut *c, size_t size) {
    if (c->held > 0) {
        c->held = 0;
    } else {
        hand_on_run(c);
        c->at += size;
        c->run = c->at;
    }
}

void cut_pass_body(struct cut *c, uint64_t size, size_t *taken) {
    *taken = size < left(c) ? (size_t)size : left(c);
    c->at += *taken;
}

const uint8_t *cut_skip_body(struct cut *c, uint64_t size, size_t *taken) {
    hand_on_run(c);
    cut_pass_body(c, size, taken);
    c->run = c->at;
    return c->at - *taken;
}

void cut_insert(struct cut *c, const uint8_t *data, size_t size) {
    hand_on_run(c);
    hand_on(c, data, size);
}

void cut_pass_all(struct cut *c) {
    if (c->held > 0) {
        hand_on(c, c->hold, c->held);
        c->held = 0;
    }
    c->at = c->end;
}
