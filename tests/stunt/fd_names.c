/* SPDX-License-Identifier: Apache-2.0 */
#include "fd_names.h"

#include <string.h>
#include <unistd.h>

int fd_names_add(struct fd_names *names, const char *name, int fd, struct error *err) {
    int old = fd_names_take(names, name);
    if (old >= 0) {
        close(old);
    }
    size_t length = strlen(name);
    for (int i = 0; i < FD_NAMES_MAX && length > 0 && length < sizeof(names->places[i].name); i++) {
        if (names->places[i].name[0] == '\0') {
            memcpy(names->places[i].name, name, length + 1);
            names->places[i].fd = fd;
            return 0;
        }
    }
    close(fd);
    return error_set(err, ERROR_VMM, "Parameter 'fdname' expects a name not starting with a digit");
}

int fd_names_take(struct fd_names *names, const char *name) {
    for (int i = 0; i < FD_NAMES_MAX; i++) {
        if (names->places[i].name[0] != '\0' && strcmp(names->places[i].name, name) == 0) {
            names->places[i].name[0] = '\0';
            return names->places[i].fd;
        }
    }
    return -1;
}

void fd_names_close(struct fd_names *names) {
    for (int i = 0; i < FD_NAMES_MAX; i++) {
        if (names->places[i].name[0] != '\0') {
            close(names->places[i].fd);
            names->places[i].name[0] = '\0';
        }
    }
}
