/* SPDX-License-Identifier: Apache-2.0 */
/* What another relay sends (relay/post.h): a stream of packets. What is given out has had its digest. */
#include "fuzz.h"
#include "relay/post.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#define MOST 4096 /* fits into the socket's buffer */

/* Mends the check of every header that is there, or nothing behind the first would ever be looked at. */
static void mend(uint8_t *data, size_t size) {
    for (size_t at = 0; at + PACKET_HEADER_SIZE <= size;) {
        uint64_t check = XXH3_64bits(data + at, PACKET_HEADER_SIZE - 8);
        uint32_t more = 0;
        for (unsigned i = 0; i < 8; i++) {
            data[at + PACKET_HEADER_SIZE - 8 + i] = (uint8_t)(check >> 8 * i);
        }
        for (unsigned i = 0; i < 4; i++) {
            more |= (uint32_t)data[at + 8 + i] << 8 * i;
        }
        at += PACKET_HEADER_SIZE + (more < size ? more : size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = { data, size < MOST ? size : MOST };
    bool whole = (take(&input, 1) & 1) != 0;
    uint8_t *copy = copy_of(input.data, input.size), *room = malloc(PACKET_MOST + 1);
    struct error err = { 0 };
    struct tally t;
    struct conn c;
    struct packet p;
    int ends[2], rc;
    uint64_t bytes = 0;
    MUST(room != NULL && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && tally_open(&t, &err) == 0);
    if (whole) {
        mend(copy, input.size);
    }
    MUST(send(ends[0], copy, input.size, MSG_DONTWAIT) == (ssize_t)input.size);
    close(ends[0]);
    conn_init(&c, ends[1], "link");
    while ((rc = post_take(&c, &t, &p, room, &err)) == 0) {
        MUST(p.kind != PACKET_ABORT && p.size <= (p.kind == PACKET_DATA ? PACKET_MOST : PACKET_TEXT_MOST));
        bytes += p.kind == PACKET_DATA ? p.size : 0;
        MUST(t.bytes == bytes && p.position == bytes);
        MUST(p.kind != PACKET_OPEN || room[p.size] == '\0');
    }
    MUST((rc < 0) == error_is_set(&err));
    conn_close(&c);
    tally_close(&t);
    free(copy);
    free(room);
    return 0;
}
