/* SPDX-License-Identifier: Apache-2.0 */
#include "ram.h"

#include "base/cleanup.h"
#include "number.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* Pages are filled or left out in groups, as a guest's allocator does it. */
#define FILL_GROUP (64 * STUNT_PAGE)
#define FILL_THREADS 4
#define HUGE_PAGE (2u << 20)

static int check_file(struct ram *ram, int fd, struct error *err) {
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0) {
        return error_errno(err, ERROR_SYSTEM, "%s", ram->path);
    }
    ram->hugetlb = fs.f_type == HUGETLBFS_MAGIC;
    ram->page_size = ram->hugetlb ? (uint64_t)fs.f_bsize : STUNT_PAGE;
    if (ram->size == 0 || ram->size % ram->page_size != 0) {
        return error_set(err, ERROR_USAGE, "the size of %s must be a multiple of %llu", ram->id,
                         (unsigned long long)ram->page_size);
    }
    return 0;
}

/* As QEMU has it: huge pages are asked for. */
static int open_own(struct ram *ram, struct error *err) {
    ram->page_size = STUNT_PAGE;
    void *map =
        mmap(NULL, ram->size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        return error_errno(err, ERROR_SYSTEM, "memory for %s", ram->id);
    }
    uintptr_t start = ((uintptr_t)map + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE, left = start - (uintptr_t)map;
    if (left > 0) {
        munmap(map, left);
    }
    munmap((void *)(start + ram->size), HUGE_PAGE - left);
    ram->map = (uint8_t *)start;
    madvise(ram->map, ram->size, MADV_HUGEPAGE);
    return 0;
}

int ram_open(struct ram *ram, bool read_only, struct error *err) {
    ram->fd = -1;
    ram->own = strcmp(ram->path, RAM_ANONYMOUS) == 0;
    if (ram->own) {
        return open_own(ram, err);
    }
    CLEANUP_CLOSE int fd = open(ram->path, (read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_CLOEXEC, 0600);
    if (fd < 0) {
        return error_errno(err, ERROR_SYSTEM, "%s", ram->path);
    }
    struct stat now;
    if (check_file(ram, fd, err) < 0) {
        return -1;
    }
    if (fstat(fd, &now) < 0 || ((uint64_t)now.st_size < ram->size && ftruncate(fd, (off_t)ram->size) < 0)) {
        return error_errno(err, ERROR_SYSTEM, "%s", ram->path);
    }
    void *map = mmap(NULL, ram->size, PROT_READ | (read_only ? 0 : PROT_WRITE), MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        return error_errno(err, ERROR_SYSTEM, "mapping %s", ram->path);
    }
    ram->map = map;
    ram->fd = take_fd(&fd);
    return 0;
}

int ram_swap(struct ram *ram, const char *path, struct error *err) {
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || mmap(ram->map, ram->size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        return error_errno(err, ERROR_SYSTEM, "%s in the place of %s", path, ram->path);
    }
    return 0;
}

void ram_close(struct ram *ram) {
    if (ram->map != NULL) {
        munmap(ram->map, ram->size);
        ram->map = NULL;
        if (ram->fd >= 0) {
            close(ram->fd);
        }
    }
}

int memory_open(struct memory *memory, bool read_only, struct error *err) {
    memory->pages = 0;
    for (size_t i = 0; i < memory->count; i++) {
        if (ram_open(&memory->rams[i], read_only, err) < 0) {
            return -1;
        }
        memory->pages += memory->rams[i].size / STUNT_PAGE;
    }
    return 0;
}

void memory_close(struct memory *memory) {
    for (size_t i = 0; i < memory->count; i++) {
        ram_close(&memory->rams[i]);
    }
}

const struct ram *memory_block(const struct memory *memory, uint64_t page, uint64_t *inside) {
    const struct ram *ram = memory->rams;
    while (page >= ram->size / STUNT_PAGE) {
        page -= ram->size / STUNT_PAGE;
        ram++;
    }
    *inside = page;
    return ram;
}

uint8_t *memory_page(const struct memory *memory, uint64_t page) {
    uint64_t inside;
    const struct ram *ram = memory_block(memory, page, &inside);
    return ram->map + inside * STUNT_PAGE;
}

struct filler {
    const struct ram *ram;
    const struct content_mix *mix;
    uint64_t percent, seed;
    unsigned share; /* this thread does the groups with group % FILL_THREADS == share */
};

static void *fill_groups(void *argument) {
    const struct filler *filler = argument;
    const struct ram *ram = filler->ram;
    uint64_t group_size = ram->hugetlb ? ram->page_size : FILL_GROUP;
    for (uint64_t group = filler->share; group * group_size < ram->size; group += FILL_THREADS) {
        /* Every time that the percentage reaches a whole group: evenly spread and exact. */
        if ((group + 1) * filler->percent / 100 == group * filler->percent / 100) {
            continue;
        }
        uint64_t end = (group + 1) * group_size < ram->size ? (group + 1) * group_size : ram->size;
        for (uint64_t at = group * group_size; at < end; at += STUNT_PAGE) {
            uint64_t number = filler->seed + at / STUNT_PAGE;
            content_write(ram->map + at, content_pick(filler->mix, number), number);
        }
    }
    return NULL;
}

static int fill_block(const struct filler *plan, struct error *err) {
    struct filler fillers[FILL_THREADS];
    pthread_t threads[FILL_THREADS];
    unsigned started = 0;
    for (; started < FILL_THREADS; started++) {
        fillers[started] = *plan;
        fillers[started].share = started;
        errno = pthread_create(&threads[started], NULL, fill_groups, &fillers[started]);
        if (errno != 0) {
            error_errno(err, ERROR_SYSTEM, "a thread to fill %s", plan->ram->id);
            break;
        }
    }
    for (unsigned i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    return error_is_set(err) ? -1 : 0;
}

int memory_fill(const struct memory *memory, uint64_t percent, const struct content_mix *mix, uint64_t seed,
                struct error *err) {
    for (size_t i = 0; percent > 0 && i < memory->count; i++) {
        struct filler plan = {
            .ram = &memory->rams[i], .mix = mix, .percent = percent, .seed = number_mix(seed ^ i << 56)
        };
        if (fill_block(&plan, err) < 0) {
            return -1;
        }
    }
    return 0;
}
