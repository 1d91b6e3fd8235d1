/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches that an accelerator spoiled. The destination has placed nothing of them and names their pages; they are sent
 * again, in full and by software. Everything in the message comes from the other side and is checked here.
 */
#include "migrate/source.h"

#include "base/log.h"
#include "wire/frame.h"

/* More than any device spoils before it is given up: then it is not a device. */
#define MAX_REJECTIONS 4096

/* As they were in the frame: ascending, and not more pages than a batch has. */
static int check_runs(const struct ram_block *b, json_t *runs) {
    size_t n = json_array_size(runs);
    uint64_t next = 0, total = 0;
    if (n == 0 || n % 2 != 0) {
        return -1;
    }
    for (size_t i = 0; i < n; i += 2) {
        json_int_t first = json_integer_value(json_array_get(runs, i));
        json_int_t count = json_integer_value(json_array_get(runs, i + 1));
        if (first < 0 || (uint64_t)first < next || (uint64_t)first >= b->pages || count < 1 ||
            (uint64_t)count > b->pages - (uint64_t)first || (total += (uint64_t)count) > FRAME_MAX_PAGES) {
            return -1;
        }
        next = (uint64_t)first + (uint64_t)count;
    }
    return 0;
}

int source_note_rejection(struct source *s, json_t *message, struct error *err) {
    json_int_t block = json_integer_value(json_object_get(message, "block"));
    bool known = json_is_integer(json_object_get(message, "block")) && block >= 0 && block < s->ram.count;
    if (s->send == NULL || !known || check_runs(&s->ram.blocks[block], json_object_get(message, "runs")) < 0) {
        return error_set(err, ERROR_PEER, "the destination rejects pages that there are not");
    }
    if (++s->rejected_count > MAX_REJECTIONS) {
        return error_set(err, ERROR_PEER, "the destination rejects everything that is sent");
    }
    json_int_t device = json_integer_value(json_object_get(message, "device"));
    log_debug("the destination rejects a batch of device %lld", (long long)device);
    if (device > 0 && device <= UINT8_MAX) {
        ram_send_blame(s->send, (unsigned)device);
    }
    events_emit(&s->events, "rejected", json_pack("{s:O?}", "device", json_object_get(message, "device")));
    if (s->rejections == NULL) {
        s->rejections = json_array();
    }
    return json_array_append(s->rejections, message) == 0 ? 0 : error_set(err, ERROR_SYSTEM, "no memory");
}

size_t source_mark_rejections(struct source *s) {
    size_t n = json_array_size(s->rejections), i;
    json_t *message;
    json_array_foreach(s->rejections, i, message) {
        uint16_t block = (uint16_t)json_integer_value(json_object_get(message, "block"));
        json_t *runs = json_object_get(message, "runs");
        for (size_t k = 0; k < json_array_size(runs); k += 2) {
            uint64_t count = (uint64_t)json_integer_value(json_array_get(runs, k + 1));
            ram_send_forget(s->send, block, (uint64_t)json_integer_value(json_array_get(runs, k)), count);
            atomic_fetch_add(&ram_send_counters(s->send)->resent, count);
        }
    }
    json_decref(s->rejections);
    s->rejections = NULL;
    return n;
}
