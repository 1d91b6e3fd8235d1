/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM that has no name by which it could be found: anonymous memory (-m alone, memory-backend-ram), a memfd, a file
 * that QEMU has mapped for itself (share=off). It is found by its address, and taken for what the kernel says that the
 * process has there:
 *
 *   memory of its own        VMM_RAM_MEMORY
 *   a file for itself        VMM_RAM_MEMORY with an origin: pages that nobody has written are the file's
 *   a file, shared           VMM_RAM_FILE, as one with a name
 */
#include "vmm/qemu/ram_kinds.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

/* The file whose pages lie under those that the process has written: of it only what it holds is asked and read. */
static int open_origin(struct qemu *q, struct vmm_ram *ram, const struct mapping *first, struct error *err) {
    ram->device = first->device;
    ram->inode = first->inode;
    ram->origin = process_open_mapping(q->vmm.pid, first, O_RDONLY, err);
    if (ram->origin < 0) {
        return error_prefix(err, "RAM back end %s: ", ram->id);
    }
    return ram_page_size(ram, ram->origin, err);
}

int ram_take_memory(struct qemu *q, struct vmm_ram *ram, const struct look *l, const struct ramblock *b,
                    struct error *err) {
    ram->kind = VMM_RAM_MEMORY;
    ram->page_size = RAM_SMALL_PAGE;
    ram->ranges = malloc(sizeof(*ram->ranges));
    ram->fd = fcntl(l->memory, F_DUPFD_CLOEXEC, 0);
    if (ram->ranges == NULL || ram->fd < 0) {
        return error_errno(err, ERROR_SYSTEM, "no memory or descriptor for %s", ram->id);
    }
    ram->ranges[0] = (struct vmm_ram_range){ b->host, b->host + ram->size, 0 };
    ram->range_count = 1;
    return look_remember(q, b, err);
}

static int not_found(const struct vmm_ram *ram, const struct look *l, struct error *err) {
    if (l->memory < 0) {
        return error_set(err, ERROR_REFUSED,
                         "the memory of the QEMU process may not be read, so its RAM %s cannot: run "
                         "as root",
                         ram->id);
    }
    if (l->proved && look_backend(l, ram->id) == NULL) {
        return error_set(err, ERROR_REFUSED, "no device of the guest uses the RAM back end %s: remove it (object-del)",
                         ram->id);
    }
    return error_set(err, ERROR_REFUSED,
                     "where QEMU has its RAM %s cannot be found out%s: a named file for it (memory-backend-file, "
                     "share=on) needs no looking for",
                     ram->id, l->count > 0 ? " with certainty" : ", for its monitor does not tell (info ramblock)");
}

int ram_take_found(struct qemu *q, struct vmm_ram *ram, const struct look *l, struct error *err) {
    const struct ramblock *b = look_backend(l, ram->id);
    const struct mapping *first;
    if (b == NULL || b->host == 0) {
        return not_found(ram, l, err);
    }
    if (b->used != ram->size || b->host % RAM_SMALL_PAGE != 0 || ram->size % RAM_SMALL_PAGE != 0) {
        return error_set(err, ERROR_REFUSED, "QEMU says that its RAM %s has %" PRIu64 " bytes, and %" PRIu64, ram->id,
                         ram->size, b->used);
    }
    switch (look_at(l, b->host, ram->size, &first)) {
    case LOOK_SHARED_FILE:
        return ram_take_file(q, ram, first, l->maps, l->map_count, err);
    case LOOK_PRIVATE_FILE:
        return ram_take_memory(q, ram, l, b, err) < 0 ? -1 : open_origin(q, ram, first, err);
    case LOOK_ANONYMOUS:
        return ram_take_memory(q, ram, l, b, err);
    case LOOK_NOTHING:
        break;
    }
    return error_set(err, ERROR_REFUSED,
                     "the process does not have its RAM %s in one piece where QEMU says that it is: if it is not the "
                     "QEMU behind this QMP socket, pass --pid",
                     ram->id);
}
