/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of QEMU's migration stream, for those who parse it: names as in QEMU's migration/savevm.c and ram.c, so no
 * header may include this one. Read in 7.2 and 10.0, and seen in the streams of 7.2, 10.0 and 11.1. Big-endian:
 *
 *   stream   u32 'QEVM' u32 3, 07 u32 n machine-name subsections, then sections
 *   section  01 START  u32 id u8 n name u32 instance u32 version, data, footer
 *            02 PART, 03 END  u32 id, data, footer
 *            04 FULL: a device, of no known length; RAM has ended before, but for a few kinds
 *            08 command  u16 which u16 n, n bytes
 *            00 the end [06 u32 n description]
 *   footer   7e u32 id
 *   ram      START: u64 total|04, for each block u8 n name u64 size [u64 address] [u64 page size], until the sizes are
 *            the total; then, and in PART and END, records until EOS. A record: u64 offset|flags, [u8 n name], body
 */
#ifndef GODWIT_VMM_QEMU_STREAM_FORMAT_H
#define GODWIT_VMM_QEMU_STREAM_FORMAT_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PAGE_SIZE 4096u
#define FLAGS (PAGE_SIZE - 1)

enum {
    MAGIC = 0x5145564d,
    VERSION = 3,
    RAM_VERSION = 4,
};

enum kind {
    VM_EOF = 0,
    START = 1,
    PART = 2,
    END = 3,
    FULL = 4,
    SUBSECTION = 5,
    CONFIGURATION = 7,
    COMMAND = 8,
    FOOTER = 0x7e
};

enum command {
    OPEN_RETURN_PATH = 1,
    PING = 2,
    POSTCOPY_ADVISE = 3,
    POSTCOPY_LISTEN = 4,
    POSTCOPY_RUN = 5,
    RAM_DISCARD = 6,
    PACKAGED = 7,
    SWITCHOVER_START = 11,
};

enum flag {
    ZERO = 0x02,
    MEM_SIZE = 0x04,
    PAGE = 0x08,
    EOS = 0x10,
    CONTINUE = 0x20,
    XBZRLE = 0x40,
    COMPRESS_PAGE = 0x100,
    MULTIFD_FLUSH = 0x200,
};

#define NAME_MOST 255u
#define HEADER 9u             /* of a record: offset and flags, length of the name */
#define COMPRESSED_MOST 4352u /* bytes of a page: zlib makes no more of 4096 */
#define PART_HEADER 5u
#define FOOTER_SIZE 5u

static inline uint16_t get_be16(const uint8_t *p) {
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return be16toh(v);
}

static inline uint32_t get_be32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return be32toh(v);
}

static inline uint64_t get_be64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return be64toh(v);
}

static inline void put_be32(uint8_t *p, uint32_t v) {
    v = htobe32(v);
    memcpy(p, &v, sizeof(v));
}

static inline void put_be64(uint8_t *p, uint64_t v) {
    v = htobe64(v);
    memcpy(p, &v, sizeof(v));
}

/* Of `size` bytes of the stream, without a NUL. */
static inline bool is_name(const uint8_t *p, size_t size, const char *name) {
    return size == strlen(name) && memcmp(p, name, size) == 0;
}

#endif
