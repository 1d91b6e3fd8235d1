/* SPDX-License-Identifier: Apache-2.0 */
#include "ram/block.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "ram/digest.h"
#include "ram/zero.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int ram_init(struct ram *ram, size_t count, struct error *err) {
    *ram = (struct ram){ .blocks = calloc(count, sizeof(ram->blocks[0])),
                         .block_pages = calloc(count, sizeof(ram->block_pages[0])) };
    if (count == 0 || count > UINT16_MAX || ram->blocks == NULL || ram->block_pages == NULL) {
        ram_free(ram);
        return error_set(err, ERROR_SYSTEM, "no memory for %zu RAM blocks", count);
    }
    ram->count = (uint16_t)count;
    return 0;
}

static void open_common(struct ram *ram, size_t i, const char *id, uint64_t size, uint64_t host_page_size, int fd) {
    struct ram_block *b = &ram->blocks[i];
    *b = (struct ram_block){ .id = id, .pages = size / RAM_PAGE_SIZE, .host_page_size = host_page_size, .fd = fd };
    ram->block_pages[i] = b->pages;
    pthread_mutex_init(&b->write_lock, NULL);
}

int ram_open_source(struct ram *ram, size_t i, const char *id, uint64_t size, uint64_t host_page_size, int fd,
                    struct error *err) {
    open_common(ram, i, id, size, host_page_size, fd);
    struct ram_block *b = &ram->blocks[i];
    b->dirty = calloc(bits_words(b->pages), sizeof(uint64_t));
    b->written = calloc(bits_words(b->pages), sizeof(uint64_t));
    b->sent = calloc(bits_words(b->pages), sizeof(uint64_t));
    if (b->dirty == NULL || b->written == NULL || b->sent == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the page maps of %s", id);
    }
    return 0;
}

int ram_open_destination(struct ram *ram, size_t i, const char *id, uint64_t size, uint64_t host_page_size, int fd,
                         struct error *err) {
    open_common(ram, i, id, size, host_page_size, fd);
    struct ram_block *b = &ram->blocks[i];
    b->rejected = calloc(bits_words(b->pages), sizeof(uint64_t));
    if (b->rejected == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the page map of %s", id);
    }
    if (host_page_size == RAM_PAGE_SIZE) {
        return 0;
    }
    b->placed = calloc(bits_words(size / host_page_size), sizeof(uint64_t));
    if (b->placed == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory for the page map of %s", id);
    }
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (map == MAP_FAILED) {
        return error_errno(err, ERROR_SYSTEM, "cannot map the hugetlbfs file of %s", id);
    }
    b->map = map;
    return 0;
}

void ram_free(struct ram *ram) {
    for (size_t i = 0; i < ram->count; i++) {
        struct ram_block *b = &ram->blocks[i];
        free(b->dirty);
        free(b->written);
        free(b->sent);
        free(b->placed);
        free(b->rejected);
        if (b->digests != NULL) {
            munmap(b->digests, b->digested * sizeof(b->digests[0]));
        }
        pthread_mutex_destroy(&b->write_lock);
        if (b->map != NULL) {
            munmap(b->map, b->pages * RAM_PAGE_SIZE);
        }
    }
    free(ram->blocks);
    free(ram->block_pages);
    *ram = (struct ram){ 0 };
}

uint64_t ram_pages(const struct ram *ram) {
    uint64_t n = 0;
    for (size_t i = 0; i < ram->count; i++) {
        n += ram->blocks[i].pages;
    }
    return n;
}

uint64_t ram_dirty_pages(const struct ram *ram) {
    uint64_t n = 0;
    for (size_t i = 0; i < ram->count; i++) {
        n += bits_count(ram->blocks[i].dirty, ram->blocks[i].pages);
    }
    return n;
}

uint64_t ram_take_written(struct ram *ram) {
    uint64_t pages = 0;
    for (uint16_t i = 0; i < ram->count; i++) {
        struct ram_block *b = &ram->blocks[i];
        for (size_t word = 0; word < bits_words(b->pages); word++) {
            pages += (uint64_t)__builtin_popcountll(b->written[word]);
            b->dirty[word] |= b->written[word];
            b->written[word] = 0;
        }
    }
    return pages;
}

uint64_t ram_allocated(const struct ram *ram) {
    uint64_t bytes = 0;
    struct stat st;
    for (size_t i = 0; i < ram->count; i++) {
        if (fstat(ram->blocks[i].fd, &st) == 0) {
            bytes += (uint64_t)st.st_blocks * 512;
        }
    }
    return bytes;
}

int ram_next_extent(const struct ram_block *b, uint64_t from, uint64_t *start, uint64_t *end, struct error *err) {
    uint64_t size = b->pages * RAM_PAGE_SIZE;
    if (from >= size) {
        return 0;
    }
    off_t data, hole;
    do {
        data = lseek(b->fd, (off_t)from, SEEK_DATA);
        if (data < 0) {
            return errno == ENXIO ? 0 : error_errno(err, ERROR_SYSTEM, "SEEK_DATA on the RAM file of %s", b->id);
        }
        hole = lseek(b->fd, data, SEEK_HOLE);
        if (hole < 0) {
            return error_errno(err, ERROR_SYSTEM, "SEEK_HOLE on the RAM file of %s", b->id);
        }
        /* The guest may give these pages back between the two questions. That is no end of the file: ask again. */
    } while (hole <= data && (uint64_t)data < size);
    *start = (uint64_t)data;
    *end = (uint64_t)hole < size ? (uint64_t)hole : size;
    return *start < *end;
}

int ram_skip_holes(struct ram_block *b, struct error *err) {
    uint64_t at = 0, start = 0, end = 0;
    int rc;
    while ((rc = ram_next_extent(b, at * RAM_PAGE_SIZE, &start, &end, err)) > 0) {
        bits_clear_range(b->dirty, at, start / RAM_PAGE_SIZE);
        at = (end + RAM_PAGE_SIZE - 1) / RAM_PAGE_SIZE;
    }
    if (rc == 0 && at < b->pages) {
        bits_clear_range(b->dirty, at, b->pages);
    }
    return rc;
}

static int punch(const struct ram_block *b, uint64_t start, uint64_t length, struct error *err) {
    if (fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start, (off_t)length) < 0) {
        return error_errno(err, ERROR_SYSTEM, "cannot free stale pages of %s", b->id);
    }
    return 0;
}

#define LOOK_SIZE (1u << 20)

/* Whether [start, end) holds anything but zeros; read in pieces, for a host page may be 1 GiB. */
static int holds_data(const struct ram_block *b, uint64_t start, uint64_t end, uint8_t *buffer, struct error *err) {
    for (uint64_t at = start; at < end; at += LOOK_SIZE) {
        uint64_t n = end - at < LOOK_SIZE ? end - at : LOOK_SIZE;
        if (ram_read(b, at / RAM_PAGE_SIZE, n / RAM_PAGE_SIZE, buffer, err) < 0) {
            return -1;
        }
        if (!is_zero(buffer, n)) {
            return 1;
        }
    }
    return 0;
}

/* Host page by host page, or MiB by MiB where those are small: what holds anything is punched. */
static int punch_nonzero(const struct ram_block *b, uint64_t start, uint64_t end, uint8_t *buffer, struct error *err) {
    uint64_t unit = b->host_page_size > LOOK_SIZE ? b->host_page_size : LOOK_SIZE;
    for (; start < end; start += unit) {
        uint64_t n = end - start < unit ? end - start : unit;
        int data = holds_data(b, start, start + n, buffer, err);
        if (data < 0 || (data > 0 && punch(b, start, n, err) < 0)) {
            return -1;
        }
    }
    return 0;
}

int ram_make_empty(struct ram_block *b, struct error *err) {
    CLEANUP_FREE uint8_t *buffer = malloc(LOOK_SIZE);
    if (buffer == NULL) {
        return error_errno(err, ERROR_SYSTEM, "no memory to look for stale pages");
    }
    uint64_t at = 0, start = 0, end = 0;
    int rc;
    while ((rc = ram_next_extent(b, at, &start, &end, err)) > 0) {
        start -= start % b->host_page_size;
        if (punch_nonzero(b, start, end, buffer, err) < 0) {
            return -1;
        }
        at = end;
    }
    return rc;
}

int ram_read(const struct ram_block *b, uint64_t first, uint64_t count, uint8_t *out, struct error *err) {
    uint64_t at = first * RAM_PAGE_SIZE, left = count * RAM_PAGE_SIZE;
    while (left > 0) {
        ssize_t n = pread(b->fd, out, left, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return error_errno(err, ERROR_SYSTEM, "cannot read the RAM file of %s", b->id);
        }
        if (n == 0) {
            return error_set(err, ERROR_SYSTEM, "the RAM file of %s has become shorter than the guest's memory", b->id);
        }
        out += n;
        at += (uint64_t)n;
        left -= (uint64_t)n;
    }
    return 0;
}

/* Channels place into one block at the same time: this map is shared by them all. */
static bool host_page_backed(const struct ram_block *b, uint64_t h) {
    return __atomic_load_n(&b->placed[h / 64], __ATOMIC_RELAXED) >> (h % 64) & 1;
}

/* Backs the host pages of [start, end) before they are touched: without a free huge page the touch would be a SIGBUS,
 * this is an error. */
static int back_huge_pages(struct ram_block *b, uint64_t start, uint64_t end, struct error *err) {
    for (uint64_t h = start / b->host_page_size; h * b->host_page_size < end; h++) {
        if (host_page_backed(b, h)) {
            continue;
        }
        if (madvise(b->map + h * b->host_page_size, b->host_page_size, MADV_POPULATE_WRITE) < 0 && errno != EINVAL) {
            return error_errno(err, ERROR_SYSTEM, "no huge page left for %s (raise vm.nr_hugepages)", b->id);
        }
        /* Two threads may both get here for one host page; populating twice is harmless, so only the bit is shared. */
        __atomic_fetch_or(&b->placed[h / 64], UINT64_C(1) << (h % 64), __ATOMIC_RELAXED);
    }
    return 0;
}

int ram_place(struct ram_block *b, uint64_t first, uint64_t count, const uint8_t *data, struct error *err) {
    uint64_t at = first * RAM_PAGE_SIZE, left = count * RAM_PAGE_SIZE;
    if (b->map != NULL) {
        if (back_huge_pages(b, at, at + left, err) < 0) {
            return -1;
        }
        memcpy(b->map + at, data, left);
        return 0;
    }
    LOCK_GUARD(&b->write_lock);
    while (left > 0) {
        ssize_t n = pwrite(b->fd, data, left, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return error_errno(err, ERROR_SYSTEM,
                               "cannot write the RAM file of %s (is its tmpfs large enough for the guest?)", b->id);
        }
        data += n;
        at += (uint64_t)n;
        left -= (uint64_t)n;
    }
    return 0;
}

int ram_place_zero(struct ram_block *b, uint64_t first, uint64_t count, struct error *err) {
    if (b->map == NULL) {
        return punch(b, first * RAM_PAGE_SIZE, count * RAM_PAGE_SIZE, err);
    }
    for (uint64_t page = first; page < first + count; page++) {
        /* A host page that was never backed is zero already. */
        if (host_page_backed(b, page * RAM_PAGE_SIZE / b->host_page_size)) {
            memset(b->map + page * RAM_PAGE_SIZE, 0, RAM_PAGE_SIZE);
        }
    }
    return 0;
}
