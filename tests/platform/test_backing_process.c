/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of another process as a backing: what arrives there, what is left alone, and what is said when it goes. */
#include "support.h"

#include "base/bits.h"
#include "ram/backing.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((size_t)RAM_PAGE_SIZE)
#define PAGES 200u /* more than one piece of what is cleared at once */

/* A child with private memory at the same address as ours was; it does what it is told, one byte a command. */
struct scene {
    pid_t pid;
    uint8_t *memory;
    int ask[2], answer[2];
    int fd;
    struct backing *backing;
};

static void serve(void *opaque) {
    const struct scene *s = opaque;
    char command;
    for (uint8_t done = 1; read(s->ask[0], &command, 1) == 1;) {
        if (command == 'w') { /* writes pages 0, 70 and the last byte */
            s->memory[0] = s->memory[70 * PAGE + 9] = s->memory[PAGES * PAGE - 1] = 7;
        } else if (command == 'u') {
            munmap(s->memory + 100 * PAGE, PAGE);
        } else if (command == 'r') { /* says what page 70 holds */
            done = s->memory[70 * PAGE + 9];
        }
        if (write(s->answer[1], &done, 1) != 1) {
            return;
        }
    }
}

static uint8_t tell(struct scene *s, char command) {
    uint8_t answer;
    assert_int_equal(write(s->ask[1], &command, 1), 1);
    assert_int_equal(read(s->answer[0], &answer, 1), 1);
    return answer;
}

static void scene_begin(struct scene *s) {
    struct error err = { 0 };
    char path[48];
    *s = (struct scene){ .memory =
                             mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };
    assert_true(s->memory != MAP_FAILED);
    madvise(s->memory, PAGES * PAGE, MADV_NOHUGEPAGE);
    assert_int_equal(pipe(s->ask), 0);
    assert_int_equal(pipe(s->answer), 0);
    s->pid = child_start(serve, s);
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)s->pid);
    s->fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(s->fd >= 0);
    struct backing_memory memory = {
        .id = "vram", .size = PAGES * PAGE, .address = (uint64_t)(uintptr_t)s->memory, .fd = s->fd
    };
    s->backing = backing_open_memory(&memory, &err);
    assert_ok(s->backing != NULL, &err);
    assert_true(s->backing->own && s->backing->size == PAGES * PAGE && s->backing->page_size == PAGE);
}

static void scene_end(struct scene *s) {
    backing_close(s->backing);
    close(s->fd);
    if (s->pid != 0) {
        child_end(s->pid);
    }
    munmap(s->memory, PAGES * PAGE);
    for (int i = 0; i < 2; i++) {
        close(s->ask[i]);
        close(s->answer[i]);
    }
}

/* Pages of the child's memory that have memory of their own: present, and anonymous. */
static unsigned own_pages(const struct scene *s) {
    char line[256], path[48];
    unsigned kib = 0, at = 0;
    unsigned long start, end;
    snprintf(path, sizeof(path), "/proc/%d/smaps", (int)s->pid);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
            at = (uintptr_t)s->memory >= start && (uintptr_t)s->memory < end;
        } else if (at != 0 && sscanf(line, "Anonymous: %u kB", &kib) == 1) {
            break;
        }
    }
    fclose(file);
    return kib / 4;
}

static void reads_and_places(void **state) {
    (void)state;
    struct scene s;
    struct error err = { 0 };
    uint8_t page[2 * PAGE], expected[2 * PAGE];
    scene_begin(&s);
    tell(&s, 'w');
    assert_ok(s.backing->ops->read(s.backing, (PAGES - 2) * PAGE, 2 * PAGE, page, &err) == 0, &err);
    memset(expected, 0, sizeof(expected));
    expected[2 * PAGE - 1] = 7;
    assert_memory_equal(page, expected, sizeof(page));
    memset(page, 9, sizeof(page));
    assert_ok(s.backing->ops->place(s.backing, 70 * PAGE, 2 * PAGE, page, &err) == 0, &err);
    assert_int_equal(tell(&s, 'r'), 9);
    uint64_t start, end;
    assert_int_equal(s.backing->ops->next_extent(s.backing, 5 * PAGE, &start, &end, &err), 1);
    assert_true(start == 5 * PAGE && end == PAGES * PAGE);
    assert_int_equal(s.backing->ops->next_extent(s.backing, PAGES * PAGE, &start, &end, &err), 0);
    assert_int_equal(s.backing->ops->watch(s.backing, -1, &err), 0);
    scene_end(&s);
}

/* Zeros are written where something else is, and nowhere else: what nobody has touched stays untouched. */
static void zeros(void **state) {
    (void)state;
    struct scene s;
    struct error err = { 0 };
    uint8_t page[PAGE], expected[PAGE] = { 0 };
    scene_begin(&s);
    unsigned before = own_pages(&s);
    assert_int_equal(before, 0);
    tell(&s, 'w');
    assert_int_equal(own_pages(&s), 3);
    assert_ok(s.backing->ops->zero(s.backing, 70 * PAGE, PAGE, &err) == 0, &err);
    assert_int_equal(tell(&s, 'r'), 0);
    assert_ok(s.backing->ops->read(s.backing, 0, PAGE, page, &err) == 0, &err);
    assert_int_equal(page[0], 7); /* its neighbours are left alone */
    assert_ok(s.backing->ops->make_empty(s.backing, &err) == 0, &err);
    for (uint64_t i = 0; i < PAGES; i++) {
        assert_ok(s.backing->ops->read(s.backing, i * PAGE, PAGE, page, &err) == 0, &err);
        assert_memory_equal(page, expected, PAGE);
    }
    assert_int_equal(own_pages(&s), 3);
    scene_end(&s);
}

static void memory_that_is_not_mapped_any_more(void **state) {
    (void)state;
    struct scene s;
    struct error err = { 0 };
    uint8_t page[2 * PAGE] = { 1 };
    scene_begin(&s);
    tell(&s, 'u');
    assert_int_equal(s.backing->ops->read(s.backing, 99 * PAGE, 2 * PAGE, page, &err), -1);
    assert_non_null(strstr(err.desc, "does not have its memory vram mapped any more"));
    error_clear(&err);
    assert_int_equal(s.backing->ops->place(s.backing, 100 * PAGE, PAGE, page, &err), -1);
    assert_non_null(strstr(err.desc, "mapped any more"));
    error_clear(&err);
    assert_int_equal(s.backing->ops->make_empty(s.backing, &err), -1);
    scene_end(&s);
}

static void a_process_that_has_ended(void **state) {
    (void)state;
    struct scene s;
    struct error err = { 0 };
    uint8_t page[PAGE] = { 1 };
    scene_begin(&s);
    child_end(s.pid); /* and is waited for: its id is free */
    s.pid = 0;
    assert_int_equal(s.backing->ops->read(s.backing, 0, PAGE, page, &err), -1);
    assert_int_equal(err.class, ERROR_VMM);
    assert_non_null(strstr(err.desc, "has ended"));
    error_clear(&err);
    assert_int_equal(s.backing->ops->place(s.backing, 0, PAGE, page, &err), -1);
    assert_non_null(strstr(err.desc, "has ended"));
    scene_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_places),
        cmocka_unit_test(zeros),
        cmocka_unit_test(memory_that_is_not_mapped_any_more),
        cmocka_unit_test(a_process_that_has_ended),
    };
    return cmocka_run_group_tests(tests, NULL, platform_end);
}
