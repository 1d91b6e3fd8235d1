/* SPDX-License-Identifier: Apache-2.0 */
/* Small files of /proc and /sys that are read again and again: opened once, then read from their beginning. */
#ifndef GODWIT_HOST_FILE_H
#define GODWIT_HOST_FILE_H

#include <stddef.h>

/* A buffer that many reads share; all zero is an empty one. */
struct host_text {
    char *data;
    size_t size;
};

/* Opens `root` followed by `path` ("/proc/stat"); -1 when it can't be, which is no failure: the host does not say. */
int host_open(const char *root, const char *path);
/* Closes a descriptor of host_open() and makes it -1; -1 is left alone. */
void host_close(int *fd);

/* Reads the file behind `fd` from its beginning. Returns NUL-terminated text that is valid until the next call with the
 * same buffer, or NULL when it can't be read, is larger than 1 MiB or when `fd` is -1. */
char *host_read(int fd, struct host_text *text);
void host_text_free(struct host_text *text);

#endif
