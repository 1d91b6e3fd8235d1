/* SPDX-License-Identifier: Apache-2.0 */
/* What was written, found by content, in memory of a process: here our own, through /proc/self/mem. */
#include "base/bits.h"
#include "ram/compare.h"
#include "support.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((size_t)RAM_PAGE_SIZE)
#define PAGES 150u /* more than two pieces, and no whole number of them */

static struct ram ram;
static struct digest_key key;
static uint8_t *memory;
static int fd, file;

/* Block 0 is a file, which is none of the comparison's business; block 1 is our memory. */
static int setup(void **state) {
    (void)state;
    struct error err = { 0 };
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    file = tmpfs_file(8 * PAGE);
    struct backing_memory own = { .id = "vram", .size = PAGES * PAGE, .address = (uintptr_t)memory, .fd = fd };
    assert_ok(ram_init(&ram, 2, &err) == 0, &err);
    assert_ok(ram_open_source(&ram, 0, backing_on(file, 8 * PAGE, PAGE, false), &err) == 0, &err);
    assert_ok(ram_open_source(&ram, 1, backing_open_memory(&own, &err), &err) == 0, &err);
    assert_ok(digest_key_make(&key, &err) == 0, &err);
    assert_ok(ram_digests_open(&ram, 0, &err) == 0, &err); /* no memory for the others' */
    return 0;
}

static int teardown(void **state) {
    (void)state;
    ram_free(&ram);
    munmap(memory, PAGES * PAGE);
    close(fd);
    close(file);
    return 0;
}

struct text {
    char bytes[256];
    size_t length;
};

static void write_run(void *opaque, uint16_t block, uint64_t first, uint64_t end) {
    struct text *t = opaque;
    t->length += (size_t)snprintf(t->bytes + t->length, sizeof(t->bytes) - t->length, "%s%u:%llu-%llu",
                                  t->length > 0 ? " " : "", block, (unsigned long long)first, (unsigned long long)end);
    assert_true(t->length < sizeof(t->bytes));
}

static void assert_differ(bool seen, const char *expected) {
    struct error err = { 0 };
    struct text t = { "", 0 };
    assert_ok(ram_compare(&ram, &key, seen, write_run, &t, &err) == 0, &err);
    assert_string_equal(t.bytes, expected);
}

/* As a pass does it: what is there now is what was sent. */
static void send_page(uint64_t page) {
    struct ram_block *b = &ram.blocks[1];
    ram_set_digest(b, page, digest_page(&key, memory + page * PAGE));
    bits_set(b->sent, page);
    bits_clear(b->dirty, page);
}

static void who_is_asked(void **state) {
    (void)state;
    assert_false(ram.blocks[0].compared);
    assert_true(ram.blocks[1].compared);
    assert_int_equal(ram.blocks[0].digested, 0);
    assert_int_equal(ram.blocks[1].digested, PAGES);
    assert_int_equal(pwrite(file, "x", 1, 0), 1);
    assert_differ(false, "");
}

static void against_what_was_sent(void **state) {
    (void)state;
    memory[63 * PAGE] = memory[64 * PAGE + 5] = memory[149 * PAGE + 4095] = 1; /* across pieces, and the last byte */
    assert_differ(false, "1:63-65 1:149-150");
    assert_differ(false, "1:63-65 1:149-150"); /* looking changes nothing */
    send_page(63);
    send_page(64);
    assert_differ(false, "1:149-150");
    bits_set(ram.blocks[1].dirty, 149);
    assert_differ(false, ""); /* it is known to be dirty */
    send_page(149);
    memory[64 * PAGE + 6] = 1;
    assert_differ(false, "1:64-65");
}

/* Written, copied by a pass, and written back: the same at both looks, another at the destination. */
static void back_to_what_it_was(void **state) {
    (void)state;
    memory[7 * PAGE] = 1;
    send_page(7);
    assert_differ(false, "");
    memory[7 * PAGE] = 2;
    send_page(7);
    memory[7 * PAGE] = 1;
    assert_differ(false, "1:7-8");
}

static void zeros(void **state) {
    (void)state;
    memory[3 * PAGE] = 1;
    send_page(3);
    memory[3 * PAGE] = 0;
    assert_differ(false, "1:3-4"); /* the destination has something there */
    bits_clear(ram.blocks[1].sent, 3);
    ram_set_digest(&ram.blocks[1], 3, (struct page_digest){ 0, 0 });
    assert_differ(false, "");
    bits_set(ram.blocks[1].sent, 3); /* it was sent, and it is not known what: as behind a rejection */
    assert_differ(false, "1:3-4");
}

/* Who only watches is told of each change once. */
static void seen(void **state) {
    (void)state;
    memory[1 * PAGE] = memory[2 * PAGE] = 1;
    assert_differ(true, "1:1-3");
    assert_differ(true, "");
    memory[1 * PAGE] = 0;
    memory[2 * PAGE] = 2;
    assert_differ(true, "1:1-3");
    memory[1 * PAGE] = 3;
    assert_differ(true, "1:1-2");
    assert_differ(true, "");
}

static void memory_that_is_gone(void **state) {
    (void)state;
    struct error err = { 0 };
    assert_int_equal(munmap(memory + 100 * PAGE, PAGE), 0);
    assert_int_equal(ram_compare(&ram, &key, false, NULL, NULL, &err), -1);
    assert_non_null(strstr(err.desc, "vram"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_is_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(against_what_was_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(back_to_what_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(zeros, setup, teardown),
        cmocka_unit_test_setup_teardown(seen, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_that_is_gone, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
