/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/rejections.h"

#include "wire/frame.h"

#include <stdlib.h>

/* Entry `i` of an array, as far as it is a whole number; else -1, which nothing may be. */
static json_int_t number(json_t *array, size_t i) {
    json_t *value = json_array_get(array, i);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

/* As they were in the frame: ascending, and not more pages than a batch has. */
static int check_runs(const struct ram_block *b, json_t *runs) {
    size_t n = json_array_size(runs);
    uint64_t next = 0, total = 0;
    if (n == 0 || n % 2 != 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i += 2) {
        json_int_t first = number(runs, i), count = number(runs, i + 1);
        if (first < 0 || (uint64_t)first < next || (uint64_t)first >= b->pages || count < 1 ||
            (uint64_t)count > b->pages - (uint64_t)first || (total += (uint64_t)count) > FRAME_MAX_PAGES) {
            return -1;
        }
        next = (uint64_t)first + (uint64_t)count;
    }
    return 0;
}

static int make_room(struct rejections *r, size_t more, struct error *err) {
    if (more <= r->room - r->count) {
        return 0;
    }
    size_t room = 2 * (r->count + more);
    struct rejected_run *runs = realloc(r->runs, room * sizeof(runs[0]));
    if (runs == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for pages that are to be sent again");
    }
    r->runs = runs;
    r->room = room;
    return 0;
}

int rejections_take(struct rejections *r, const struct ram *ram, json_t *message, struct error *err) {
    json_t *index = json_object_get(message, "block"), *runs = json_object_get(message, "runs");
    json_int_t block = json_integer_value(index);
    bool known = json_is_integer(index) && block >= 0 && block < ram->count;
    if (!known || check_runs(&ram->blocks[block], runs) < 0) {
        return error_set(err, ERROR_PEER, "the destination rejects pages that there are not");
    }
    size_t n = json_array_size(runs) / 2;
    if (r->taken == REJECTIONS_MAX || n > REJECTIONS_MAX_RUNS - r->count) {
        return error_set(err, ERROR_PEER, "the destination rejects everything that is sent");
    }
    if (make_room(r, n, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        r->runs[r->count++] = (struct rejected_run){ .first = (uint64_t)number(runs, 2 * i),
                                                     .count = (uint32_t)number(runs, 2 * i + 1),
                                                     .block = (uint16_t)block };
    }
    r->taken++;
    r->waiting++;
    return 0;
}

size_t rejections_mark(struct rejections *r, struct ram_send *send) {
    size_t batches = r->waiting;
    for (size_t i = 0; i < r->count; i++) {
        const struct rejected_run *run = &r->runs[i];
        ram_send_forget(send, run->block, run->first, run->count);
        atomic_fetch_add(&ram_send_counters(send)->resent, run->count);
    }
    free(r->runs);
    *r = (struct rejections){ .taken = r->taken };
    return batches;
}

void rejections_free(struct rejections *r) {
    free(r->runs);
    *r = (struct rejections){ 0 };
}
