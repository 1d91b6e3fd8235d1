/* SPDX-License-Identifier: Apache-2.0 */
/* What is made of a saved device state, byte by byte. That QEMU loads it: tests/e2e/test_own_ram.py. */
#include "support.h"
#include "vmm/qemu/compose.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define MOST ((size_t)8 << 20)

struct text {
    uint8_t data[MOST];
    size_t size;
    size_t takes; /* how often the sink was called */
    size_t fail;  /* at this call; 0: never */
};

static struct text got, want;

static int take(void *opaque, const uint8_t *data, size_t size, struct error *err) {
    struct text *t = opaque;
    assert_true(size > 0 && t->size + size <= MOST);
    if (++t->takes == t->fail) {
        return error_set(err, ERROR_LINK, "full");
    }
    memcpy(t->data + t->size, data, size);
    t->size += size;
    return 0;
}

static const struct vmm_sink sink = { .take = take, .opaque = &got };

static void put(const void *bytes, size_t size) {
    memcpy(want.data + want.size, bytes, size);
    want.size += size;
}

static void put_number(uint64_t n, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) {
        uint8_t byte = (uint8_t)(n >> (8 * i));
        put(&byte, 1);
    }
}

static int file_of(const void *bytes, size_t size) {
    int fd = memfd_create("saved", MFD_CLOEXEC);
    assert_true(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    return fd;
}

#define SAVED "QEVM\0\0\0\3\4some devices\x7e"
static const uint8_t saved[] = SAVED; /* its last byte is 0, as the end is */

static void start(void) {
    got.size = got.takes = got.fail = want.size = 0;
    put(saved, 8);
    put_number(7, 1);
    put_number(18, 4);
    put("pc-i440fx-test-7.2", 18);
}

static void end(void) {
    put(saved + 8, sizeof(saved) - 8);
    put_number(6, 1);
    put_number(0, 4);
}

static int make(int fd, const struct vmm_ram *left, size_t count, struct error *err) {
    const struct compose c = { .machine = "pc-i440fx-test-7.2", .left = left, .left_count = count, .saved = fd };
    return compose(&c, &sink, err);
}

static void check(int fd, const struct vmm_ram *left, size_t count) {
    struct error err = { 0 };
    assert_ok(make(fd, left, count, &err) == 0, &err);
    assert_int_equal(got.size, want.size);
    assert_memory_equal(got.data, want.data, want.size);
}

static void without_ram(void **state) {
    (void)state;
    int fd = file_of(saved, sizeof(saved));
    start();
    end();
    check(fd, NULL, 0);
    close(fd);
}

/* Two blocks: the list of both, then every page of each, in order; one of zeros is a byte. */
static void with_ram(void **state) {
    (void)state;
    enum { FIRST = 3, SECOND = 200 }; /* pages: more than a buffer's */
    static uint8_t memory[(FIRST + SECOND) * PAGE];
    memset(memory, 0, sizeof(memory));
    for (unsigned i = 0; i < FIRST + SECOND; i++) {
        memory[i * PAGE + (i * 37) % PAGE] = i % 3 == 0 ? 0 : (uint8_t)i; /* and a page with but one byte set */
    }
    memory[PAGE - 1] = 1; /* the last of a page counts */
    int fd = file_of(saved, sizeof(saved)), ram = file_of(memory, sizeof(memory));
    struct vmm_ram_range ranges[] = { { 0, FIRST * PAGE, 0 }, { FIRST * PAGE, sizeof(memory), 0 } };
    struct vmm_ram left[] = { { .id = "a.rom", .size = FIRST * PAGE, .fd = ram, .ranges = &ranges[0] },
                              { .id = "vga.vram", .size = SECOND * PAGE, .fd = ram, .ranges = &ranges[1] } };
    start();
    put_number(4, 1);
    put_number(2, 4);
    put_number(3, 1);
    put("ram", 3);
    put_number(0, 4);
    put_number(4, 4);
    put_number(sizeof(memory) | 0x04, 8);
    for (size_t i = 0; i < 2; i++) {
        put_number(strlen(left[i].id), 1);
        put(left[i].id, strlen(left[i].id));
        put_number(left[i].size, 8);
    }
    for (size_t i = 0; i < 2; i++) {
        for (uint64_t at = 0; at < left[i].size; at += PAGE) {
            const uint8_t *page = memory + ranges[i].start + at;
            static const uint8_t zeros[PAGE];
            bool zero = memcmp(page, zeros, PAGE) == 0;
            put_number(at | (zero ? 0x02 : 0x08), 8);
            put_number(strlen(left[i].id), 1);
            put(left[i].id, strlen(left[i].id));
            put(page, zero ? 1 : PAGE);
        }
    }
    put_number(0x10, 8);
    put_number(0x7e, 1);
    put_number(2, 4);
    end();
    check(fd, left, 2);
    close(fd);
    close(ram);
}

static void large(void **state) {
    (void)state;
    size_t size = (size_t)3 << 20;
    uint8_t *bytes = malloc(size);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(i * 7 >> 3);
    }
    memcpy(bytes, saved, 8);
    bytes[size - 1] = 0;
    int fd = file_of(bytes, size);
    start();
    put(bytes + 8, size - 8);
    put_number(6, 1);
    put_number(0, 4);
    check(fd, NULL, 0);
    close(fd);
    free(bytes);
}

/* Nothing is handed on of what is not cut where it has to be. */
static void refuse(const void *bytes, size_t size, const char *why) {
    struct error err = { 0 };
    int fd = file_of(bytes, size);
    start();
    assert_int_equal(make(fd, NULL, 0, &err), -1);
    assert_non_null(strstr(err.desc, why));
    assert_int_equal(got.size, 0);
    close(fd);
}

static void nonsense(void **state) {
    (void)state;
    uint8_t bad[sizeof(saved)];
    refuse("", 0, "0 bytes of device state");
    refuse(saved, 8, "8 bytes of device state");
    for (size_t i = 0; i < 8; i++) {
        memcpy(bad, saved, sizeof(bad));
        bad[i] ^= 1;
        refuse(bad, sizeof(bad), "no device state as it is known here");
    }
    refuse(saved, sizeof(saved) - 1, "no device state as it is known here"); /* cut: its end is missing */
}

static void far_too_large(void **state) {
    (void)state;
    struct error err = { 0 };
    int fd = file_of(saved, sizeof(saved));
    assert_int_equal(ftruncate(fd, (off_t)COMPOSE_SAVED_MAX + 1), 0);
    start();
    assert_int_equal(make(fd, NULL, 0, &err), -1);
    assert_non_null(strstr(err.desc, "makes no sense"));
    assert_int_equal(got.size, 0);
    close(fd);
}

static void memory_that_is_gone(void **state) {
    (void)state;
    struct error err = { 0 };
    int fd = file_of(saved, sizeof(saved)), ram = file_of("x", 1);
    struct vmm_ram_range range = { 0, PAGE, 0 };
    struct vmm_ram left = { .id = "a.rom", .size = PAGE, .fd = ram, .ranges = &range };
    start();
    assert_int_equal(make(fd, &left, 1, &err), -1);
    assert_non_null(strstr(err.desc, "cannot read QEMU's own RAM a.rom"));
    close(fd);
    close(ram);
}

static void a_sink_that_fails(void **state) {
    (void)state;
    struct error err = { 0 };
    int fd = file_of(saved, sizeof(saved));
    start();
    assert_int_equal(make(fd, NULL, 0, &err), 0);
    size_t takes = got.takes;
    for (size_t i = 1; i <= takes; i++) {
        error_clear(&err);
        start();
        got.fail = i;
        assert_int_equal(make(fd, NULL, 0, &err), -1);
        assert_string_equal(err.desc, "full");
    }
    close(fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_ram),       cmocka_unit_test(with_ram),      cmocka_unit_test(large),
        cmocka_unit_test(nonsense),          cmocka_unit_test(far_too_large), cmocka_unit_test(memory_that_is_gone),
        cmocka_unit_test(a_sink_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
