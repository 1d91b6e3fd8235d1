/* SPDX-License-Identifier: Apache-2.0 */
#include "view/memory.h"

struct backing *memory_open(const struct vmm_ram *ram, pid_t pid, bool write, struct error *err) {
    if (ram->kind == VMM_RAM_MEMORY) {
        struct backing_memory memory = { .id = ram->id,
                                         .size = ram->size,
                                         .page_size = ram->page_size,
                                         .address = ram->ranges[0].start,
                                         .pid = pid,
                                         .fd = ram->fd,
                                         .origin = ram->origin,
                                         .own = !ram->guest };
        return backing_open_memory(&memory, err);
    }
    struct backing_file file = {
        .id = ram->id, .size = ram->size, .page_size = ram->page_size, .fd = ram->fd, .write = write
    };
    return backing_open_file(&file, err);
}

uint64_t memory_held(const struct vmm_ram *ram, pid_t pid) {
    struct error ignored = { 0 };
    struct backing *b = memory_open(ram, pid, false, &ignored);
    uint64_t bytes = b != NULL ? b->ops->allocated(b) : 0;
    backing_close(b);
    return bytes;
}
