/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that the client gave names with getfd; they stay when the client goes, as in QEMU. */
#ifndef STUNT_FD_NAMES_H
#define STUNT_FD_NAMES_H

#include "base/error.h"

#define FD_NAMES_MAX 32

struct fd_names {
    struct {
        char name[64]; /* empty for a free place */
        int fd;
    } places[FD_NAMES_MAX];
};

/* Takes `fd` over; one of the same name is closed. */
int fd_names_add(struct fd_names *names, const char *name, int fd, struct error *err);
/* The descriptor of that name, the caller's from now on; -1 for none. */
int fd_names_take(struct fd_names *names, const char *name);
void fd_names_close(struct fd_names *names);

#endif
