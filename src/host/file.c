/* SPDX-License-Identifier: Apache-2.0 */
#include "host/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST_SIZE ((size_t)16 << 10)
#define LARGEST_SIZE ((size_t)1 << 20)

int host_open(const char *root, const char *path) {
    char name[PATH_MAX];
    int n = snprintf(name, sizeof(name), "%s%s", root, path);
    if (n < 0 || (size_t)n >= sizeof(name)) {
        return -1;
    }
    /* O_NONBLOCK: should it be a pipe, nobody waits for its writer */
    return open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

void host_close(int *fd) {
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static int grow(struct host_text *text) {
    size_t size = text->size > 0 ? text->size * 2 : FIRST_SIZE;
    char *data = size <= LARGEST_SIZE ? realloc(text->data, size) : NULL;
    if (data == NULL) {
        return -1;
    }
    text->data = data;
    text->size = size;
    return 0;
}

char *host_read(int fd, struct host_text *text) {
    size_t used = 0;
    if (fd < 0) {
        return NULL;
    }
    for (;;) {
        if (used + 1 >= text->size && grow(text) != 0) {
            return NULL;
        }
        ssize_t n = pread(fd, text->data + used, text->size - 1 - used, (off_t)used);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return NULL;
        }
        if (n == 0) {
            text->data[used] = '\0';
            return text->data;
        }
        used += (size_t)n;
    }
}

void host_text_free(struct host_text *text) {
    free(text->data);
    *text = (struct host_text){ 0 };
}
