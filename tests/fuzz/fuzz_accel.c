/* SPDX-License-Identifier: Apache-2.0 */
/* What a device says about a job: packets against a unit in a state that the first bytes choose. */
#include "accel/emulated.h"
#include "accel/emulated_protocol.h"
#include "accel/unit.h"
#include "fuzz.h"

#define SLOTS 6

static void check(const struct accel_unit *u, const uint8_t *packet, size_t size) {
    struct accel_result r;
    struct error err = { 0 };
    if (emulated_parse_result(packet, size, &r, &err) != 0) {
        MUST(error_is_set(&err));
        return;
    }
    MUST(size == sizeof(struct emulated_message));
    if (unit_check_result(u, &r, &err) != 0) {
        MUST(error_is_set(&err));
        return;
    }
    MUST(r.slot < SLOTS);
    const struct accel_slot *slot = &u->slot[r.slot];
    MUST(slot->state == SLOT_IN_FLIGHT && slot->serial == r.serial);
    MUST(r.status == ACCEL_OK || r.status == ACCEL_TOO_BIG || r.status == ACCEL_FAILED);
    if (r.status == ACCEL_OK) {
        bool packed = slot->work == ACCEL_COMPRESS;
        MUST(unit_status(slot, &r) == (packed || r.size == slot->capacity ? ACCEL_OK : ACCEL_FAILED));
        MUST(r.size <= slot->capacity && (r.size > 0 || !packed));
        MUST(r.codec == CODEC_DEFLATE || (r.codec == CODEC_LZ4 && packed));
    }
}

static enum slot_state state_of(uint32_t bits) {
    static const enum slot_state states[] = { SLOT_FREE, SLOT_IN_FLIGHT, SLOT_HELD };
    enum slot_state state = states[bits % 3];
    return state == SLOT_HELD && bits / 24 % 2 == 1 ? SLOT_ANSWERED : state;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = { data, size };
    struct accel_slot slot[SLOTS];
    struct accel_unit u = { .ready = true, .slots = SLOTS, .slot = slot, .fd = -1 };
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint32_t bits = take(&in, 1);
        slot[i] = (struct accel_slot){ .unit = &u,
                                       .index = i,
                                       .state = state_of(bits),
                                       .serial = bits / 3 % 4,
                                       .work = bits / 12 % 2,
                                       .capacity = 1 + bits * 16 };
    }
    while (in.size > 0) {
        uint32_t want = take(&in, 1);
        size_t length = want < in.size ? want : in.size;
        uint8_t *packet = copy_of(in.data, length);
        check(&u, packet, length);
        free(packet);
        in.data += length;
        in.size -= length;
    }
    return 0;
}
