/* SPDX-License-Identifier: Apache-2.0 */
/* One incarnation of a device: its slots, and what it may say about them. */
#include "accel/unit.h"

#include <inttypes.h>
#include <stdlib.h>

struct accel_unit *unit_new(const struct accel_ground *ground) {
    struct accel_unit *u = calloc(1, sizeof(*u));
    if (u != NULL) {
        u->ground = ground;
        u->instances = ground->instances;
        u->answered_tail = &u->answered;
        u->fd = -1;
        u->output.fd = -1;
    }
    return u;
}

void unit_free(struct accel_unit *unit) {
    memory_free(&unit->output);
    free(unit->slot);
    free(unit->in_flight);
    free(unit);
}

int unit_ready(struct accel_unit *unit, unsigned instances, unsigned depth, bool software, struct error *err) {
    if (unit->ready || instances == 0 || instances > unit->instances || depth == 0 || depth > ACCEL_MAX_DEPTH) {
        return error_set(err, ERROR_SYSTEM, "it offers %u queues of %u jobs", instances, depth);
    }
    if (software && !unit->ground->allow_software) {
        return error_set(err, ERROR_REFUSED,
                         "its library found no hardware on this host, and in software it is slower "
                         "than godwit's own codecs; leave it out of accel-devices");
    }
    /* A result that waits to be sent must not keep the device idle: twice as many slots as jobs that it takes. */
    unsigned slots = instances * depth * 2;
    unit->slot = calloc(slots, sizeof(*unit->slot));
    unit->in_flight = calloc(instances, sizeof(*unit->in_flight));
    if (unit->slot == NULL || unit->in_flight == NULL) {
        return error_set(err, ERROR_SYSTEM, "no memory for its queues");
    }
    size_t size = unit->ground->slot_size;
    if (memory_create(&unit->output, slots * size, ACCEL_DEVICE_WRITES, err) != 0) {
        return -1;
    }
    unit->instances = instances;
    unit->depth = depth;
    unit->slots = slots;
    for (unsigned i = 0; i < slots; i++) {
        unit->slot[i] =
            (struct accel_slot){ .unit = unit, .index = i, .instance = i / (depth * 2), .offset = i * size };
    }
    unit->software = software;
    unit->ready = true;
    return 0;
}

int unit_check_result(const struct accel_unit *unit, const struct accel_result *r, struct error *err) {
    if (r->slot >= unit->slots) {
        return error_set(err, ERROR_SYSTEM, "it answered job %" PRIu32 " of %u", r->slot, unit->slots);
    }
    const struct accel_slot *slot = &unit->slot[r->slot];
    if (slot->state != SLOT_IN_FLIGHT || slot->serial != r->serial) {
        return error_set(err, ERROR_SYSTEM, "it answered a job that it does not have");
    }
    if (r->status == ACCEL_TOO_BIG || r->status == ACCEL_FAILED) {
        return 0;
    }
    if (r->status != ACCEL_OK) {
        return error_set(err, ERROR_SYSTEM, "it gave the unknown status %" PRIu32, r->status);
    }
    if (r->codec != CODEC_DEFLATE && (r->codec != CODEC_LZ4 || slot->work == ACCEL_DECOMPRESS)) {
        return error_set(err, ERROR_SYSTEM, "it used the unknown codec %" PRIu32, r->codec);
    }
    /* A payload may decode to nothing, but nothing compresses to nothing. */
    if ((r->size == 0 && slot->work == ACCEL_COMPRESS) || r->size > slot->capacity) {
        return error_set(err, ERROR_SYSTEM, "it gave %" PRIu64 " bytes where there is room for %zu", r->size,
                         slot->capacity);
    }
    return 0;
}

enum accel_status unit_status(const struct accel_slot *slot, const struct accel_result *r) {
    if (slot->work == ACCEL_DECOMPRESS) {
        return r->status == ACCEL_OK && r->size == slot->capacity ? ACCEL_OK : ACCEL_FAILED;
    }
    return (enum accel_status)r->status;
}

int unit_result(struct accel_unit *unit, const struct accel_result *r, struct error *err) {
    if (unit_check_result(unit, r, err) != 0) {
        return -1;
    }
    struct accel_slot *slot = &unit->slot[r->slot];
    slot->status = unit_status(slot, r);
    if (slot->status == ACCEL_OK) {
        slot->job->out = slot_output(slot);
        slot->job->out_size = (size_t)r->size;
        slot->job->codec = (enum codec_id)r->codec;
    }
    slot->state = SLOT_ANSWERED;
    slot->next = NULL;
    *unit->answered_tail = slot;
    unit->answered_tail = &slot->next;
    return 0;
}

struct accel_slot *unit_take_answered(struct accel_unit *unit) {
    struct accel_slot *slot = unit->answered;
    if (slot != NULL) {
        unit->answered = slot->next;
        if (unit->answered == NULL) {
            unit->answered_tail = &unit->answered;
        }
    }
    return slot;
}

unsigned unit_overdue(const struct accel_unit *unit, int64_t now, int64_t *due) {
    unsigned late = 0;
    *due = INT64_MAX;
    for (unsigned i = 0; i < unit->slots; i++) {
        const struct accel_slot *slot = &unit->slot[i];
        if (slot->state != SLOT_IN_FLIGHT) {
            continue;
        }
        if (slot->deadline <= now) {
            late++;
        } else if (slot->deadline < *due) {
            *due = slot->deadline;
        }
    }
    return late;
}
