/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/memory.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int memory_create(struct accel_memory *m, size_t size, enum accel_access access, struct error *err) {
    size = memory_round(size);
    CLEANUP_CLOSE int fd = memfd_create("accel", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0) {
        return error_errno(err, ERROR_SYSTEM, "a memfd of %zu bytes for an accelerator", size);
    }
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED) {
        return error_errno(err, ERROR_SYSTEM, "mapping %zu bytes for an accelerator", size);
    }
    /* After our own mapping: F_SEAL_FUTURE_WRITE leaves that one writable and forbids every later one, and write(). */
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | (access == ACCEL_DEVICE_READS ? F_SEAL_FUTURE_WRITE : 0);
    if (fcntl(fd, F_ADD_SEALS, seals) != 0) {
        munmap(base, size);
        return error_errno(err, ERROR_SYSTEM, "sealing memory of an accelerator");
    }
    *m = (struct accel_memory){ .fd = take_fd(&fd), .base = base, .size = size };
    return 0;
}

void memory_free(struct accel_memory *m) {
    if (m->base != NULL) {
        munmap(m->base, m->size);
        close(m->fd);
    }
    *m = (struct accel_memory){ .fd = -1 };
}
