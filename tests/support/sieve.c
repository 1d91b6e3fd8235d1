/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts a recorded migration stream through the filter of vmm/qemu/stream.h: what the source's relay does with it.
 *
 * usage: sieve PIECES IN OUT [BLOCK...]
 *
 * PIECES: 0 as the relay reads, 1 byte by byte, else a seed of random cuts. Each BLOCK counts as carried; "/" at its
 * end makes it a beginning of names. Prints one JSON object.
 */
#include "base/clock.h"
#include "vmm/qemu/stream.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RELAY_PIECE ((size_t)256 << 10)

static bool is_carried(void *opaque, const char *block) {
    for (char **name = opaque; *name != NULL; name++) {
        size_t n = strlen(*name);
        if (strcmp(block, *name) == 0 || (n > 0 && (*name)[n - 1] == '/' && strncmp(block, *name, n) == 0)) {
            return true;
        }
    }
    return false;
}

/* In memory, so that what is measured is the filter. */
struct output {
    uint8_t *data;
    size_t size;
};

static int take(void *opaque, const uint8_t *data, size_t size, struct error *err) {
    struct output *o = opaque;
    (void)err;
    memcpy(o->data + o->size, data, size);
    o->size += size;
    return 0;
}

static int pass_on(void *opaque, const uint8_t *data, size_t size, struct error *err) {
    (void)data;
    (void)err;
    *(uint64_t *)opaque += size;
    return 0;
}

static size_t next_piece(uint64_t *state) {
    if (*state <= 1) {
        return *state == 0 ? RELAY_PIECE : 1;
    }
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return 1 + (size_t)(*state >> 33) % ((size_t)1 << (*state >> 60));
}

static int run(struct vmm_filter *f, const uint8_t *data, size_t size, uint64_t pieces, const struct vmm_sink *sink,
               struct error *err) {
    for (size_t at = 0; at < size;) {
        size_t n = next_piece(&pieces);
        n = n < size - at ? n : size - at;
        if (f->ops->feed(f, data + at, n, sink, err) < 0) {
            return -1;
        }
        at += n;
    }
    return f->ops->finish(f, sink, err);
}

static struct vmm_filter *open_filter(char **blocks) {
    struct error err = { 0 };
    const struct vmm_carried carried = { .is_carried = is_carried, .opaque = blocks };
    struct vmm_filter *f = qemu_stream_open(&carried, &err);
    if (f == NULL) {
        fprintf(stderr, "sieve: %s\n", err.desc);
        exit(2);
    }
    return f;
}

/* ns that the filter itself takes for all of it. */
static int64_t measure(const uint8_t *data, size_t size, char **blocks) {
    uint64_t passed = 0;
    struct error err = { 0 };
    const struct vmm_sink nowhere = { .take = pass_on, .opaque = &passed };
    struct vmm_filter *f = open_filter(blocks);
    int64_t begin = clock_now();
    run(f, data, size, 0, &nowhere, &err);
    int64_t took = clock_now() - begin;
    f->ops->close(f);
    return took;
}

static const uint8_t *map(const char *path, size_t *size) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        perror(path);
        exit(2);
    }
    *size = (size_t)st.st_size;
    void *data = mmap(NULL, *size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    if (data == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return data;
}

static int write_out(const char *path, const struct output *o) {
    FILE *file = fopen(path, "wbe");
    if (file == NULL || fwrite(o->data, 1, o->size, file) != o->size || fclose(file) != 0) {
        perror(path);
        return -1;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: %s PIECES IN OUT [BLOCK...]\n", argv[0]);
        return 2;
    }
    size_t size;
    struct error err = { 0 };
    const uint8_t *data = map(argv[2], &size);
    struct output out = { .data = malloc(size + 8192) };
    const struct vmm_sink sink = { .take = take, .opaque = &out };
    struct vmm_filter *f = open_filter(argv + 4);
    if (out.data == NULL || run(f, data, size, strtoull(argv[1], NULL, 10), &sink, &err) < 0 ||
        write_out(argv[3], &out) < 0) {
        fprintf(stderr, "sieve: %s\n", err.desc);
        return 1;
    }
    const char *why = atomic_load(&f->counts.why);
    printf("{\"in\": %" PRIu64 ", \"out\": %" PRIu64 ", \"pages\": %" PRIu64 ", \"why\": %s%s%s, \"ns\": %" PRId64
           "}\n",
           atomic_load(&f->counts.in), atomic_load(&f->counts.out), atomic_load(&f->counts.pages),
           why != NULL ? "\"" : "", why != NULL ? why : "null", why != NULL ? "\"" : "", measure(data, size, argv + 4));
    f->ops->close(f);
    free(out.data);
    return 0;
}
