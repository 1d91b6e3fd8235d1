/* SPDX-License-Identifier: Apache-2.0 */
#include "fd_sets.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int fd_sets_add(struct fd_sets *sets, int fd, const char *opaque, struct error *err) {
    for (int i = 0; i < FD_SETS_MAX; i++) {
        struct fd_set_place *place = &sets->places[i];
        if (!place->used) {
            *place = (struct fd_set_place){ .used = true, .fd = fd };
            snprintf(place->opaque, sizeof(place->opaque), "%s", opaque != NULL ? opaque : "");
            return i;
        }
    }
    close(fd);
    return error_set(err, ERROR_VMM, "the stunt has no more room for descriptors");
}

int fd_sets_remove(struct fd_sets *sets, json_int_t id, struct error *err) {
    if (id < 0 || id >= FD_SETS_MAX || !sets->places[id].used) {
        return error_set(err, ERROR_VMM, "File descriptor named 'fdset-id:%lld' not found", (long long)id);
    }
    close(sets->places[id].fd);
    sets->places[id].used = false;
    return 0;
}

json_t *fd_sets_list(const struct fd_sets *sets) {
    json_t *list = json_array();
    for (int i = 0; i < FD_SETS_MAX; i++) {
        const struct fd_set_place *place = &sets->places[i];
        if (place->used) {
            json_array_append_new(list, json_pack("{s:i, s:[{s:i, s:s}]}", "fdset-id", i, "fds", "fd", place->fd,
                                                  "opaque", place->opaque));
        }
    }
    return list;
}

int fd_sets_open(const struct fd_sets *sets, const char *path, struct error *err) {
    int id = -1;
    char rest = '\0';
    if (sscanf(path, "/dev/fdset/%d%c", &id, &rest) != 1 || id < 0 || id >= FD_SETS_MAX || !sets->places[id].used) {
        return error_set(err, ERROR_VMM, "Unable to open %s: No such file or directory", path);
    }
    if ((fcntl(sets->places[id].fd, F_GETFL) & O_ACCMODE) != O_WRONLY) {
        return error_set(err, ERROR_VMM, "Unable to open %s: Permission denied", path);
    }
    int fd = fcntl(sets->places[id].fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0 || ftruncate(fd, 0) < 0) {
        error_errno(err, ERROR_VMM, "Unable to open %s", path);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

void fd_sets_close(struct fd_sets *sets) {
    for (int i = 0; i < FD_SETS_MAX; i++) {
        if (sets->places[i].used) {
            close(sets->places[i].fd);
            sets->places[i].used = false;
        }
    }
}
