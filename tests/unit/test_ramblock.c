/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's list of RAM blocks, as its versions print it and as none does. */
#include "support.h"
#include "vmm/qemu/ramblock.h"

#include <stdio.h>
#include <string.h>

static bool parse(const char *line, struct ramblock *b) {
    return ramblock_parse(line, strlen(line), b);
}

static void lines_of_versions(void **state) {
    (void)state;
    struct ramblock b;
    assert_true(
        parse("   0000:00:02.0/vga.vram    4 KiB  0x0000000008080000 0x0000000001000000 0x0000000001200000", &b));
    assert_string_equal(b.id, "0000:00:02.0/vga.vram");
    assert_int_equal(b.offset, 0x8080000);
    assert_int_equal(b.used, 0x1000000);
    assert_int_equal(b.total, 0x1200000);
    assert_int_equal(b.host, 0);
    assert_true(parse("0000:00:03.0/virtio-net-pci.rom    4 KiB  0x00000000090c0000 0x0000000000040000 "
                      "0x0000000000040000 0x00007fb751400000  ro",
                      &b));
    assert_string_equal(b.id, "0000:00:03.0/virtio-net-pci.rom");
    assert_int_equal(b.host, UINT64_C(0x7fb751400000));
    assert_int_equal(b.record, 0);
    assert_true(parse("  huge    2 MiB  0x0 0x200000 0x200000 0xffffffffffffffff  rw", &b));
    assert_int_equal(b.host, UINT64_MAX);
    assert_true(parse("  n    4 KiB  0x0 0x1000 0x1000 0x12345z  rw", &b)); /* what makes no sense is not told */
    assert_int_equal(b.host, 0);
}

static void what_is_none(void **state) {
    (void)state;
    static const char *const lines[] = {
        "",
        "              Block Name    PSize              Offset               Used              Total",
        "  name    4 KiB  0x0000000000000000 0x0000000000001000",
        "  name    4 KiB  0x 0x1000 0x1000",
        "  name    4 KiB  0xg 0x1000 0x1000",
        "  name    4 KiB  0x0 0x2000 0x1000",           /* more than there is room for */
        "  name    4 KiB  0x00000000000000000 0x1 0x1", /* 17 digits */
        "  name    4 KiB  0x0 -0x1000 0x1000",
        "  name    4 KiB  0x0 1000 0x1000",
        "  4 KiB  0x0 0x1000 0x1000", /* without a name: QEMU does not migrate it */
        "  0x0 0x1000 0x1000",
    };
    struct ramblock b;
    for (size_t i = 0; i < COUNT(lines); i++) {
        if (parse(lines[i], &b)) {
            fail_msg("taken: \"%s\" as \"%s\"", lines[i], b.id);
        }
    }
}

static void ends_of_what_there_is(void **state) {
    (void)state;
    static const char line[] = "  n    4 KiB  0x1000 0x2000 0x3000 0x4000  rw";
    struct ramblock b;
    /* cut anywhere: all three numbers, though the last may lack digits, or nothing */
    for (size_t length = 0; length < sizeof(line); length++) {
        bool whole = ramblock_parse(line, length, &b);
        assert_true(whole == (length >= strlen("  n    4 KiB  0x1000 0x2000 0x3000")));
    }
    char name[300] = "";
    memset(name, 'n', 255);
    char text[400];
    snprintf(text, sizeof(text), "%s    4 KiB  0x0 0x1000 0x1000", name);
    assert_true(parse(text, &b));
    name[255] = 'n';
    snprintf(text, sizeof(text), "%s    4 KiB  0x0 0x1000 0x1000", name);
    assert_false(parse(text, &b));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_versions),
        cmocka_unit_test(what_is_none),
        cmocka_unit_test(ends_of_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
