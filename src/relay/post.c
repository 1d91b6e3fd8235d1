/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/post.h"

#include "base/text.h"

#include <string.h>

static int post(struct conn *c, enum packet_kind kind, const struct tally *t, const void *data, size_t size,
                struct error *err) {
    struct packet p = { .kind = (uint8_t)kind, .size = (uint32_t)size, .position = t->bytes };
    uint8_t header[PACKET_HEADER_SIZE];
    tally_digest(t, p.digest);
    packet_encode(&p, header);
    struct iovec pieces[2] = { { header, sizeof(header) }, { (void *)(uintptr_t)data, size } };
    return conn_writev(c, pieces, size > 0 ? 2 : 1, err);
}

int post_word(struct conn *c, enum packet_kind kind, const struct tally *t, const char *text, struct error *err) {
    size_t size = text != NULL ? strnlen(text, PACKET_TEXT_MOST) : 0;
    return post(c, kind, t, text, size, err);
}

int post_data(struct conn *c, struct tally *t, uint8_t *data, size_t size, bool corrupt, struct error *err) {
    tally_add(t, data, size);
    if (corrupt) {
        data[size - 1] ^= 1;
    }
    return post(c, PACKET_DATA, t, data, size, err);
}

/* Both are told of everything: a packet that came to another stream's place would not agree. */
static int check_tally(const struct tally *t, const struct packet *p, struct error *err) {
    uint64_t digest[2];
    tally_digest(t, digest);
    if (p->position != t->bytes || memcmp(digest, p->digest, sizeof(digest)) != 0) {
        return error_set(err, ERROR_CORRUPT,
                         "what arrived at the relay is not what left the other one, between bytes %llu and %llu of the "
                         "stream: none of it was given to QEMU. Does the network, or a host's memory, change data?",
                         (unsigned long long)(p->position - p->size), (unsigned long long)p->position);
    }
    return 0;
}

int post_take(struct conn *c, struct tally *t, struct packet *p, uint8_t *data, struct error *err) {
    uint8_t header[PACKET_HEADER_SIZE];
    int rc = conn_read_or_end(c, header, sizeof(header), err);
    if (rc != 0) {
        return rc;
    }
    if (packet_decode(header, p, err) < 0 || (p->size > 0 && conn_read(c, data, p->size, err) < 0)) {
        return -1;
    }
    if (p->kind == PACKET_DATA) {
        tally_add(t, data, p->size);
    }
    if (check_tally(t, p, err) < 0) {
        return -1;
    }
    if (p->kind == PACKET_OPEN || p->kind == PACKET_ABORT) {
        data[p->size] = '\0';
    }
    if (p->kind == PACKET_ABORT) {
        text_make_printable((char *)data);
        return error_set(err, ERROR_PEER, "the other relay: %s", (const char *)data);
    }
    return 0;
}
