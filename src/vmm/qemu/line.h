/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A socket that carries lines: the transport under qmp.h. Nothing here knows JSON.
 *
 * Every call has a deadline (clock_now() + timeout) and never blocks beyond it; while it waits it keeps an eye on what
 * its owner watches. Lines are bounded: of one that is longer than `limit` nothing is kept. All reads and writes use
 * MSG_DONTWAIT, whatever O_NONBLOCK says: that flag is shared with every process that inherited the descriptor.
 */
#ifndef GODWIT_VMM_QEMU_LINE_H
#define GODWIT_VMM_QEMU_LINE_H

#include "base/error.h"
#include "vmm/watch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct line_socket {
    int fd;             /* -1: closed */
    bool ended;         /* the peer closed it */
    bool half_written;  /* a message was cut by a timeout: the peer's parser is in the middle of something */
    char *buffer;       /* what was read and not yet returned */
    size_t start, have; /* the unread bytes are buffer[start .. have) */
    size_t searched;    /* no newline before this index */
    size_t capacity;
    size_t limit;  /* bytes of the longest line that is taken */
    bool skipping; /* in the middle of a line that was too long */
    struct vmm_watch watch;
    void (*on_wait)(void *opaque); /* called before each sleep, twice a second at least; NULL: nobody wants to know */
    void *opaque;
    bool shielded;   /* what is watched does not end a wait now */
    bool called_off; /* the owner's tick ended the last wait: the error is the owner's */
};

/* Takes ownership of `fd`. */
void line_from_fd(struct line_socket *s, int fd);
void line_close(struct line_socket *s);

/* The process that listens at the other end, 0 when it is not known (another pid namespace). */
pid_t line_peer(const struct line_socket *s);

/* Returns 1 and the next line (NUL-terminated, no line end, valid until the next call on the stream), 0 when the
 * deadline has passed, -1 on error, end of file ("QEMU went away"), a line longer than `limit`, or when somebody wants
 * the wait to end (ERROR_CANCELLED, or what the owner says). A deadline of 0 only takes what is there. */
int line_read(struct line_socket *s, char **line, size_t *length, int64_t deadline, struct error *err);
/* Writes everything; with pass_fd >= 0 that descriptor travels with the first byte. */
int line_write(struct line_socket *s, const void *data, size_t size, int pass_fd, int64_t deadline, struct error *err);
/* Whether a wait would be ended at once: a watched descriptor is readable. */
bool line_interrupted(const struct line_socket *s);
/* Forgets what was read: the next line may then be the rest of one. */
void line_forget(struct line_socket *s);

#endif
