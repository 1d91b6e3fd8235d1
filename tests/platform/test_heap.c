/* SPDX-License-Identifier: Apache-2.0 */
/* Records of RAM blocks in the heap of a process: found when they are there once, and nowhere but in the heap. */
#include "support.h"

#include "host/process.h"
#include "vmm/qemu/heap.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define MANY 8000u /* records in a row: some lie across the border of what is read at once */

/* struct RAMBlock of QEMU 7.2, as far as it goes. */
struct record {
    uint64_t rcu[2], region, host, cache, offset, used, total, resized;
    uint32_t flags;
    char id[256];
};

/* Between the child and us. */
struct shared {
    struct record *vram; /* in the child */
    int ready, again;
};

static struct record *put(struct record *r, const char *id, uint64_t host, uint64_t offset, uint64_t size) {
    *r = (struct record){ .host = host, .offset = offset, .used = size, .total = size, .flags = 0x200 };
    snprintf(r->id, sizeof(r->id), "%s", id);
    return r;
}

static struct record *add(const char *id, uint64_t host, uint64_t offset, uint64_t size) {
    return put(sbrk(sizeof(struct record)), id, host, offset, size); /* a sanitizer's malloc() is not in the heap */
}

static void set(int *what, int value) {
    __atomic_store_n(what, value, __ATOMIC_RELEASE);
}

static void wait_for(const int *what, int value) {
    while (__atomic_load_n(what, __ATOMIC_ACQUIRE) != value) {
        usleep(500);
    }
}

static void lay_out(void *opaque) {
    struct shared *s = opaque;
    char id[16];
    s->vram = add("0000:00:02.0/vga.vram", 0x7f0000000000, 0x8080000, 16 * MIB);
    add("twice", 0x7f2200000000, 0x200000, MIB);
    add("twice", 0x7f2200000000, 0x200000, MIB);
    add("another", 0x7f3300000000, 0x300000, MIB);
    /* in memory that is not the heap, as guest memory is */
    struct record *elsewhere = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    put(elsewhere, "elsewhere", 0x7f5500000000, 0x500000, MIB);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(id, sizeof(id), "b%u", i);
        add(id, 0x100000 + 4096ull * i, MIB * i, 4096);
    }
    set(&s->ready, 1);
    wait_for(&s->again, 1);
    s->vram->used = 8 * MIB;
    set(&s->ready, 2);
    for (;;) {
        pause();
    }
}

struct scene {
    struct shared *shared;
    pid_t pid;
    int memory;
    struct mapping *maps;
    size_t count;
};

static void scene_begin(struct scene *s) {
    struct error err = { 0 };
    char path[48];
    s->shared = shared_alloc(sizeof(*s->shared));
    s->pid = child_start(lay_out, s->shared);
    wait_for(&s->shared->ready, 1);
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)s->pid);
    s->memory = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(s->memory >= 0);
    assert_ok(process_mappings(s->pid, &s->maps, &s->count, &err) == 0, &err);
}

static void scene_end(struct scene *s) {
    child_end(s->pid);
    close(s->memory);
    free(s->maps);
    shared_free(s->shared, sizeof(*s->shared));
}

static void find(struct scene *s, struct ramblock *blocks, size_t count) {
    struct error err = { 0 };
    assert_ok(heap_find(s->memory, s->maps, s->count, blocks, count, &err) == 0, &err);
}

static void each_once(void **state) {
    (void)state;
    struct scene s;
    scene_begin(&s);
    struct ramblock blocks[] = {
        { .id = "0000:00:02.0/vga.vram", .offset = 0x8080000, .used = 16 * MIB, .total = 16 * MIB },
        { .id = "twice", .offset = 0x200000, .used = MIB, .total = MIB },
        { .id = "another", .offset = 0x300000, .used = MIB / 2, .total = MIB }, /* another size */
        { .id = "anothe", .offset = 0x300000, .used = MIB, .total = MIB },      /* another id */
        { .id = "another", .offset = 0x301000, .used = MIB, .total = MIB },     /* another place */
        { .id = "elsewhere", .offset = 0x500000, .used = MIB, .total = MIB, .host = 5, .record = 6 },
        { .id = "another", .offset = 0x300000, .used = MIB, .total = MIB },
    };
    find(&s, blocks, 7);
    assert_int_equal(blocks[0].host, 0x7f0000000000);
    assert_int_equal(blocks[0].record, (uintptr_t)&s.shared->vram->host);
    for (unsigned i = 1; i < 6; i++) {
        assert_int_equal(blocks[i].host, 0);
        assert_int_equal(blocks[i].record, 0);
    }
    assert_int_equal(blocks[6].host, 0x7f3300000000);

    assert_true(heap_holds(s.memory, &blocks[0]));
    struct ramblock moved = blocks[0];
    moved.host += 4096;
    assert_false(heap_holds(s.memory, &moved));
    set(&s.shared->again, 1);
    wait_for(&s.shared->ready, 2);
    assert_false(heap_holds(s.memory, &blocks[0])); /* it was resized */
    child_end(s.pid);
    assert_false(heap_holds(s.memory, &blocks[6]));
    scene_end(&s);
}

static void wherever_it_lies(void **state) {
    (void)state;
    struct scene s;
    scene_begin(&s);
    struct ramblock *blocks = calloc(MANY, sizeof(*blocks));
    assert_non_null(blocks);
    for (unsigned i = 0; i < MANY; i++) {
        blocks[i] = (struct ramblock){ .offset = MIB * i, .used = 4096, .total = 4096 };
        snprintf(blocks[i].id, sizeof(blocks[i].id), "b%u", i);
    }
    find(&s, blocks, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(blocks[i].host, 0x100000 + 4096ull * i);
    }
    free(blocks);
    scene_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_once),
        cmocka_unit_test(wherever_it_lies),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
