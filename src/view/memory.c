/* SPDX-License-Identifier: Apache-2.0 */
#include "view/memory.h"

static struct backing *open_file(const struct vmm_ram *ram, bool write, struct error *err) {
    struct backing_file file = {
        .id = ram->id, .size = ram->size, .page_size = ram->page_size, .fd = ram->fd, .write = write
    };
    return backing_open_file(&file, err);
}

static struct backing *open_memory(const struct vmm_ram *ram, pid_t pid, const atomic_bool *pinned, struct error *err) {
    struct backing_memory memory = { .id = ram->id,
                                     .size = ram->size,
                                     .page_size = ram->page_size,
                                     .address = ram->ranges[0].start,
                                     .pid = pid,
                                     .fd = ram->fd,
                                     .origin = ram->origin,
                                     .own = !ram->guest,
                                     .pinned = pinned };
    return backing_open_memory(&memory, err);
}

struct backing *memory_open(const struct vmm_ram *ram, pid_t pid, struct error *err) {
    return ram->kind == VMM_RAM_MEMORY ? open_memory(ram, pid, NULL, err) : open_file(ram, false, err);
}

struct backing *memory_open_to_place(const struct vmm_ram *ram, pid_t pid, const atomic_bool *pinned,
                                     struct error *err) {
    return ram->kind == VMM_RAM_MEMORY ? open_memory(ram, pid, pinned, err) : open_file(ram, true, err);
}

enum tracker_memory memory_kind(const struct vmm_ram *ram) {
    return ram->kind == VMM_RAM_MEMORY ? TRACKER_PRIVATE : TRACKER_SHARED;
}

uint64_t memory_held(const struct vmm_ram *ram, pid_t pid) {
    struct error ignored = { 0 };
    struct backing *b = memory_open(ram, pid, &ignored);
    uint64_t bytes = b != NULL ? b->ops->allocated(b) : 0;
    backing_close(b);
    return bytes;
}
