/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qemu/stream_head.h"

#include "vmm/qemu/stream_format.h"

static enum stream_head_says unit(struct stream_head_unit *u, size_t size, uint64_t body) {
    *u = (struct stream_head_unit){ .size = size, .body = body };
    return HEAD_UNIT;
}

static enum stream_head_says unknown(struct stream_head_unit *u, const char *why) {
    *u = (struct stream_head_unit){ .why = why };
    return HEAD_UNKNOWN;
}

static enum stream_head_says read_configuration(struct stream_head *h, struct cut *c, struct stream_head_unit *u) {
    const uint8_t *p = cut_look(c, 5);
    if (p == NULL) {
        return HEAD_WAITS;
    }
    if (p[0] != CONFIGURATION) {
        return unknown(u, "no configuration");
    }
    h->has_configuration = true;
    uint32_t size = get_be32(p + 1);
    return size <= NAME_MOST ? unit(u, 5, size) : unknown(u, "the machine's name is long");
}

/* Only capabilities that change the stream are told. */
static enum stream_head_says read_capability(struct stream_head *h, struct cut *c, struct stream_head_unit *u) {
    const uint8_t *p = cut_look(c, 1);
    if (p == NULL || (p = cut_look(c, 1u + p[0])) == NULL) {
        return HEAD_WAITS;
    }
    if (!is_name(p + 1, p[0], "x-ignore-shared")) {
        return unknown(u, "an unknown capability");
    }
    h->has_addresses = true;
    h->capabilities--;
    return unit(u, 1u + p[0], 0);
}

static enum stream_head_says read_subsection(struct stream_head *h, struct cut *c, struct stream_head_unit *u) {
    const uint8_t *p = cut_look(c, 1);
    if (p != NULL && p[0] != SUBSECTION) {
        return HEAD_OVER;
    }
    /* 05 u8 n name u32 version, and all that are known have four bytes or more */
    if (p == NULL || (p = cut_look(c, 2)) == NULL || (p = cut_look(c, 2u + p[1] + 8)) == NULL) {
        return HEAD_WAITS;
    }
    size_t n = p[1], size = 2 + n + 8;
    uint32_t version = get_be32(p + 2 + n), value = get_be32(p + 2 + n + 4);
    if (version == 1 && is_name(p + 2, n, "configuration/capabilities")) {
        h->capabilities = value;
        return unit(u, size, 0);
    }
    if (version == 1 && is_name(p + 2, n, "configuration/uuid")) {
        return unit(u, size, 12);
    }
    if (version == 1 && is_name(p + 2, n, "configuration/target-page-bits") && value == 12) {
        return unit(u, size, 0);
    }
    return unknown(u, "an unknown subsection of the configuration");
}

enum stream_head_says stream_head_read(struct stream_head *h, struct cut *c, struct stream_head_unit *u) {
    return !h->has_configuration ? read_configuration(h, c, u)
           : h->capabilities > 0 ? read_capability(h, c, u)
                                 : read_subsection(h, c, u);
}
