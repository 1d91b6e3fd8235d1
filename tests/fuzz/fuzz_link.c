/* SPDX-License-Identifier: Apache-2.0 */
/* Control messages. The first byte says how the rest comes: as raw stream bytes, or as one message with its length. */
#include "fuzz.h"
#include "wire/bytes.h"
#include "wire/link.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static void say(int fd, const void *data, size_t size) {
    MUST(send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size);
}

static void feed(int fd, struct input *in) {
    unsigned form = take(in, 1);
    size_t size = in->size < 60000 ? in->size : 60000;
    if (form % 2 == 0) {
        say(fd, in->data, size);
        return;
    }
    uint8_t head[4];
    put_u32(head, (uint32_t)size);
    say(fd, head, sizeof(head));
    say(fd, in->data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = { data, size };
    struct error err = { 0 };
    int ends[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    feed(ends[0], &in);
    shutdown(ends[0], SHUT_WR); /* so the link always breaks in the end */
    struct link *l = link_open(ends[1], INT64_C(60) * 1000000000, &err);
    MUST(l != NULL);
    int rc;
    json_t *message;
    while ((rc = link_receive(l, &message, &err)) >= 0) {
        if (rc == 1) {
            MUST(json_is_object(message));
            json_decref(message);
            continue;
        }
        struct pollfd p = { .fd = link_poll_fd(l), .events = POLLIN };
        poll(&p, 1, -1);
    }
    MUST(error_is_set(&err));
    link_close(l);
    close(ends[0]);
    return 0;
}
