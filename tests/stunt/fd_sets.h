/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that the client put into sets with add-fd, one in each: the stunt makes a new set every time. */
#ifndef STUNT_FD_SETS_H
#define STUNT_FD_SETS_H

#include "base/error.h"

#include <jansson.h>

#define FD_SETS_MAX 8

struct fd_sets {
    struct fd_set_place {
        bool used;
        int fd;
        char opaque[64];
    } places[FD_SETS_MAX];
};

/* Takes `fd` over; the number of its set, or -1. */
int fd_sets_add(struct fd_sets *sets, int fd, const char *opaque, struct error *err);
int fd_sets_remove(struct fd_sets *sets, json_int_t id, struct error *err);
/* What query-fdsets answers; a new reference. */
json_t *fd_sets_list(const struct fd_sets *sets);
/* "/dev/fdset/N" as QEMU opens it for writing: a copy of a descriptor that is open for writing only. */
int fd_sets_open(const struct fd_sets *sets, const char *path, struct error *err);
void fd_sets_close(struct fd_sets *sets);

#endif
