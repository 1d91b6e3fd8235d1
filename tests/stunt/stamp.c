/* SPDX-License-Identifier: Apache-2.0 */
#include "stamp.h"

#include "number.h"

#define SECTOR 512

static uint64_t stamp_of(const struct load *load, uint64_t page, uint8_t version, uint64_t sector) {
    return number_mix(load->seed ^ page << 16 ^ sector << 8 ^ version);
}

static size_t place_of(const struct load *load, uint64_t page) {
    return number_mix(~load->seed ^ page) % (STUNT_PAGE / 8) * 8;
}

/* Others read guest memory while it is written; the stamps at least are never torn. */
static void put(uint8_t *bytes, uint64_t stamp) {
    __atomic_store_n((uint64_t *)(void *)bytes, stamp, __ATOMIC_RELAXED);
}

static uint64_t get(const uint8_t *bytes) {
    return __atomic_load_n((const uint64_t *)(const void *)bytes, __ATOMIC_RELAXED);
}

void stamp_write(uint8_t *bytes, const struct load *load, uint64_t page, uint8_t version) {
    if (load->write == 8) {
        put(bytes + place_of(load, page), stamp_of(load, page, version, 0));
        return;
    }
    enum content kind = content_pick(&load->mix, load->seed + page);
    content_write(bytes, kind, stamp_of(load, page, version, UINT8_MAX));
    for (uint64_t i = 0; i < STUNT_PAGE / SECTOR; i++) {
        put(bytes + i * SECTOR, stamp_of(load, page, version, i));
    }
}

bool stamp_holds(const uint8_t *bytes, const struct load *load, uint64_t page, uint8_t version) {
    if (load->write == 8) {
        return get(bytes + place_of(load, page)) == stamp_of(load, page, version, 0);
    }
    for (uint64_t i = 0; i < STUNT_PAGE / SECTOR; i++) {
        if (get(bytes + i * SECTOR) != stamp_of(load, page, version, i)) {
            return false;
        }
    }
    return true;
}
