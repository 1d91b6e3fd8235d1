/* SPDX-License-Identifier: Apache-2.0 */
/* Integers on the wire: little-endian, written byte by byte. No struct of ours is ever the wire's layout. */
#ifndef GODWIT_WIRE_BYTES_H
#define GODWIT_WIRE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void put_u16(uint8_t *p, uint16_t v) {
    v = htole16(v);
    memcpy(p, &v, sizeof(v));
}

static inline void put_u32(uint8_t *p, uint32_t v) {
    v = htole32(v);
    memcpy(p, &v, sizeof(v));
}

static inline void put_u64(uint8_t *p, uint64_t v) {
    v = htole64(v);
    memcpy(p, &v, sizeof(v));
}

static inline uint16_t get_u16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return le16toh(v);
}

static inline uint32_t get_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static inline uint64_t get_u64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

#endif
