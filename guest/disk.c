/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The disk is divided into extents of 16 blocks of 4 KiB; a transfer stays inside one extent and
 * holds its lock, so readers never see half of a write. A block that this run has not written is not checked.
 *
 * A read is checked twice: when it ends, and when its buffer is used again a few dozen reads later. The second time
 * finds what the first cannot: a page that the device wrote into guest memory while a migration had already sent it.
 */
#include "disk.h"

#include "content.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXTENT 16
#define LOCKS 64
#define BUFFERS 32
#define DISK_SEED UINT64_C(0x6469736b)

struct disk {
    const struct settings *settings;
    int fd;
    uint64_t extents;
    uint32_t *versions; /* of each block; 0 for not written; guarded by the extent's lock */
    pthread_mutex_t locks[LOCKS];
};

/* What was read last into one buffer: enough to check it again. */
struct slot {
    uint64_t block;
    unsigned count;
    uint32_t versions[EXTENT];
    char *data;
};

static struct content content_of(const struct disk *disk, uint64_t block, uint32_t version) {
    uint64_t seed = disk->settings->seed ^ DISK_SEED;
    return (struct content){ .seed = seed,
                             .place = block,
                             .body = version,
                             .version = version,
                             .kind = content_kind_at(seed, block, disk->settings->mix) };
}

static void check_slot(const struct disk *disk, const struct slot *slot, const char *what) {
    for (unsigned i = 0; i < slot->count; i++) {
        if (slot->versions[i] != 0) {
            struct content content = content_of(disk, slot->block + i, slot->versions[i]);
            report_check(what, slot->data + (size_t)i * CONTENT_SIZE, &content);
        }
    }
}

static void transfer(const struct disk *disk, struct slot *slot, bool writing) {
    size_t size = (size_t)slot->count * CONTENT_SIZE;
    off_t at = (off_t)(slot->block * CONTENT_SIZE);
    ssize_t done = writing ? pwrite(disk->fd, slot->data, size, at) : pread(disk->fd, slot->data, size, at);
    atomic_fetch_add_explicit(&report.disk_ops, 1, memory_order_relaxed);
    if (done != (ssize_t)size) {
        report_error("disk %s of %u blocks at %llu: %s", writing ? "write" : "read", slot->count,
                     (unsigned long long)slot->block, done < 0 ? strerror(errno) : "short");
        slot->count = 0;
    }
}

static void read_some(struct disk *disk, struct slot *slot, uint64_t random) {
    check_slot(disk, slot, "read buffer of disk block");
    uint64_t extent = random % disk->extents;
    unsigned first = (unsigned)(random >> 40) % EXTENT;
    slot->block = extent * EXTENT + first;
    slot->count = 1 + (unsigned)(random >> 50) % (EXTENT - first);
    pthread_mutex_t *lock = &disk->locks[extent % LOCKS];
    pthread_mutex_lock(lock);
    memcpy(slot->versions, disk->versions + slot->block, slot->count * sizeof(slot->versions[0]));
    transfer(disk, slot, false);
    check_slot(disk, slot, "disk block");
    pthread_mutex_unlock(lock);
}

/* Returns how many blocks it wrote. */
static unsigned write_some(struct disk *disk, struct slot *slot, uint64_t random) {
    uint64_t extent = random % disk->extents;
    unsigned first = (unsigned)(random >> 40) % EXTENT;
    slot->block = extent * EXTENT + first;
    slot->count = 1 + (unsigned)(random >> 50) % (EXTENT - first);
    unsigned count = slot->count;
    pthread_mutex_t *lock = &disk->locks[extent % LOCKS];
    pthread_mutex_lock(lock);
    for (unsigned i = 0; i < count; i++) {
        struct content content = content_of(disk, slot->block + i, disk->versions[slot->block + i] + 1);
        content_fill(slot->data + (size_t)i * CONTENT_SIZE, &content);
    }
    transfer(disk, slot, true);
    for (unsigned i = 0; i < slot->count; i++) {
        disk->versions[slot->block + i]++;
    }
    pthread_mutex_unlock(lock);
    return count;
}

static int make_slots(struct slot slots[BUFFERS]) {
    memset(slots, 0, BUFFERS * sizeof(slots[0]));
    for (unsigned i = 0; i < BUFFERS; i++) {
        slots[i].data = aligned_alloc(CONTENT_SIZE, (size_t)EXTENT * CONTENT_SIZE);
        if (slots[i].data == NULL) {
            report_error("no memory for disk buffers");
            return -1;
        }
    }
    return 0;
}

static void *write_loop(void *opaque) {
    struct disk *disk = opaque;
    struct slot slots[BUFFERS];
    if (make_slots(slots) != 0) {
        return NULL;
    }
    uint64_t random = disk->settings->seed ^ DISK_SEED, rate = disk->settings->disk_rate;
    for (unsigned n = 0;; n++) {
        random = content_hash(random);
        unsigned blocks = write_some(disk, &slots[0], random);
        /* The block just written, and one from anywhere. */
        read_some(disk, &slots[1 + n % (BUFFERS - 1)], random);
        n++;
        read_some(disk, &slots[1 + n % (BUFFERS - 1)], content_hash(~random));
        if (rate != 0) {
            uint64_t us = blocks * UINT64_C(1000000) * (CONTENT_SIZE / 1024) / rate;
            nanosleep(&(struct timespec){ .tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000 },
                      NULL);
        }
    }
    return NULL;
}

static void *read_loop(void *opaque) {
    struct disk *disk = opaque;
    struct slot slots[BUFFERS];
    if (make_slots(slots) != 0) {
        return NULL;
    }
    uint64_t random = (uint64_t)(uintptr_t)slots;
    for (unsigned n = 0;; n++) {
        random = content_hash(random);
        read_some(disk, &slots[n % BUFFERS], random);
    }
    return NULL;
}

int disk_start(const struct settings *settings, const char *path) {
    static struct disk disk;
    disk.settings = settings;
    disk.fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    off_t size = disk.fd < 0 ? -1 : lseek(disk.fd, 0, SEEK_END);
    if (size < EXTENT * CONTENT_SIZE) {
        return -1;
    }
    disk.extents = (uint64_t)size / (EXTENT * CONTENT_SIZE);
    disk.versions = calloc(disk.extents * EXTENT, sizeof(disk.versions[0]));
    if (disk.versions == NULL) {
        return -1;
    }
    for (int i = 0; i < LOCKS; i++) {
        pthread_mutex_init(&disk.locks[i], NULL);
    }
    for (uint64_t i = 0; i < settings->disk + settings->disk_read; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, i < settings->disk ? write_loop : read_loop, &disk) != 0) {
            return -1;
        }
    }
    return 0;
}
