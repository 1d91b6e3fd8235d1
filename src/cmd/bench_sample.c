/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/bench_sample.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/zero.h"
#include "ram/kind.h"
#include "view/memory.h"
#include "vmm/qemu/qemu.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* What makes one memory, in this order: a file of the user's, or blocks of a guest. */
struct source {
    int fd; /* -1: a block */
    struct backing *block;
    uint64_t size;
};

static int read_file(int fd, uint64_t at, uint8_t *to, uint64_t size, struct error *err) {
    ssize_t n = io_read_at(fd, to, size, at);
    if (n < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot read the memory");
    }
    return n == (ssize_t)size ? 0 : error_set(err, ERROR_SYSTEM, "the memory became shorter while it was read");
}

/* Reads `size` bytes at `at` of the whole memory. */
static int read_memory(const struct source *sources, uint64_t at, uint8_t *to, uint64_t size, struct error *err) {
    while (at >= sources->size) {
        at -= sources->size;
        sources++;
    }
    while (size > 0) {
        uint64_t here = sources->size - at < size ? sources->size - at : size;
        int rc = sources->block != NULL ? sources->block->ops->read(sources->block, at, here, to, err)
                                        : read_file(sources->fd, at, to, here, err);
        if (rc < 0) {
            return -1;
        }
        to += here;
        size -= here;
        at = 0;
        sources++;
    }
    return 0;
}

/* Takes the pages at `from` into the sample that are not zero; `from` is at or behind the end of what is in it. */
static void take_pages(struct bench_sample *s, const uint8_t *from, uint64_t pages) {
    for (uint64_t i = 0; i < pages; i++) {
        const uint8_t *page = from + i * BENCH_PAGE;
        s->pages++;
        if (is_zero(page, BENCH_PAGE)) {
            s->zero++;
            continue;
        }
        uint8_t *to = s->data + (bench_sample_used(s) - 1) * BENCH_PAGE;
        if (to != page) {
            memmove(to, page, BENCH_PAGE);
        }
    }
}

static int sample(struct bench_sample *s, const struct source *sources, uint64_t limit, unsigned piece,
                  struct error *err) {
    uint64_t pages = s->memory / BENCH_PAGE, pieces = (pages + piece - 1) / piece;
    uint64_t wanted = limit / BENCH_PAGE / piece;
    wanted = wanted == 0 ? 1 : wanted > pieces ? pieces : wanted;
    s->capacity = wanted * piece * BENCH_PAGE;
    s->data = mmap(NULL, s->capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s->data == MAP_FAILED) {
        s->data = NULL;
        return error_errno(err, ERROR_SYSTEM, "no memory for a sample of %llu bytes: ask for less with --size",
                           (unsigned long long)s->capacity);
    }
    for (uint64_t i = 0; i < wanted; i++) {
        /* i * pieces / wanted, without an overflow for any memory that there is */
        uint64_t first = (pieces / wanted * i + pieces % wanted * i / wanted) * piece;
        uint64_t n = pages - first < piece ? pages - first : piece;
        uint8_t *to = s->data + bench_sample_used(s) * BENCH_PAGE;
        if (read_memory(sources, first * BENCH_PAGE, to, n * BENCH_PAGE, err) < 0) {
            return -1;
        }
        take_pages(s, to, n);
    }
    if (kind_sort(s->data, bench_sample_used(s)) < 0) { /* a migration compresses pages of a kind together */
        return error_set(err, ERROR_SYSTEM, "no memory to sort the sample");
    }
    return 0;
}

int bench_sample_file(struct bench_sample *s, const char *path, uint64_t limit, unsigned piece, struct error *err) {
    struct stat st;
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    *s = (struct bench_sample){ 0 };
    if (fd < 0 || fstat(fd, &st) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot open %s", path);
    }
    off_t size = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) ? lseek(fd, 0, SEEK_END) : -1;
    if (size < 0) {
        return error_set(err, ERROR_SYSTEM, "%s is no file that can be read at any place: save the memory into a file",
                         path);
    }
    if ((uint64_t)size < BENCH_PAGE) {
        return error_set(err, ERROR_SYSTEM, "%s has less than a page of %u bytes: give a file with guest memory", path,
                         BENCH_PAGE);
    }
    struct source source = { .fd = fd, .size = (uint64_t)size };
    s->memory = (uint64_t)size;
    return sample(s, &source, limit, piece, err) < 0 ? error_prefix(err, "%s: ", path) : 0;
}

static void close_blocks(struct source *sources, size_t count) {
    for (size_t i = 0; i < count; i++) {
        backing_close(sources[i].block);
    }
    free(sources);
}

/* All of the guest's RAM, to be closed before the VMM. *count is right after a failure too. */
static struct source *open_blocks(struct vmm *vmm, size_t *count, struct error *err) {
    *count = 0;
    if (vmm_inspect(vmm, VMM_SOURCE, err) < 0) {
        return NULL;
    }
    struct source *sources = calloc(vmm->ram_count + 1, sizeof(*sources));
    if (sources == NULL) {
        error_errno(err, ERROR_SYSTEM, "no memory");
        return NULL;
    }
    for (size_t i = 0; i < vmm->ram_count && vmm->ram[i].guest; i++) {
        struct backing *block = memory_open(&vmm->ram[i], vmm->pid, err);
        if (block == NULL) {
            break;
        }
        sources[(*count)++] = (struct source){ .fd = -1, .block = block, .size = vmm->ram[i].size };
    }
    return sources;
}

int bench_sample_guest(struct bench_sample *s, const char *qmp_path, uint64_t limit, unsigned piece,
                       struct error *err) {
    size_t count;
    *s = (struct bench_sample){ 0 };
    struct vmm *vmm = vmm_qemu_open(qmp_path, 0, err);
    if (vmm == NULL) {
        return -1;
    }
    struct source *sources = open_blocks(vmm, &count, err);
    for (size_t i = 0; i < count; i++) {
        s->memory += sources[i].size;
    }
    int rc = error_is_set(err) ? -1 : sample(s, sources, limit, piece, err);
    close_blocks(sources, count);
    vmm->ops->close(vmm);
    return rc;
}

void bench_sample_free(struct bench_sample *s) {
    if (s->data != NULL) {
        munmap(s->data, s->capacity);
        s->data = NULL;
    }
}
